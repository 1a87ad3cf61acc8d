"""The import path of `torch.nn.parameter`; the class is defined in `dynarl.autograd.tensor`."""

from dynarl.autograd import Parameter

__all__ = ["Parameter"]
