"""`torch.nn.parameter`'s path; the class is the engine's."""

from dynarl.autograd import Parameter

__all__ = ["Parameter"]
