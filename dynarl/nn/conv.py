"""Convolution and pooling layers of images [B, C, H, W]."""

from __future__ import annotations

import math
from typing import Any

from dynarl.autograd import Parameter, empty
from dynarl.autograd.ops.conv import avg_pool2d, conv2d, max_pool2d, windows_of
from dynarl.nn import init
from dynarl.nn.module import Module


class Conv2d(Module):
    """Correlate images [B, in_channels, H, W] with weight [out_channels, in_channels, ky, kx] and add a bias.

    Sizes are a number or a pair; padding may be "valid" or "same". Grouped convolutions and other borders than
    zeros are not offered. Initial values as in PyTorch: uniform in ±1/sqrt(in_channels ky kx).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if groups != 1:
            raise ValueError(f"Conv2d: groups must be 1, got {groups}; grouped convolutions are not offered")
        if padding_mode != "zeros":
            raise ValueError(f"Conv2d: padding_mode must be 'zeros', got {padding_mode!r}")
        windows = windows_of(kernel_size, stride, padding, dilation)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.dilation = windows.kernel, windows.stride, windows.dilation
        self.padding = padding if isinstance(padding, str) else windows.padding
        self.windows = windows
        self.weight = Parameter(empty((out_channels, in_channels, *windows.kernel), device=device, dtype=dtype))
        self.bias: Parameter | None
        if bias:
            self.bias = Parameter(empty((out_channels,), device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Any:
        return conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding not in ((0, 0), "valid"):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        return text if self.bias is not None else text + ", bias=False"


class _Pool2d(Module):
    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride


class MaxPool2d(_Pool2d):
    """Return the largest element of every window of images [B, C, H, W]; stride is the kernel's size by default."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1) -> None:
        super().__init__(kernel_size, stride, padding)
        self.dilation = dilation

    def forward(self, input: Any) -> Any:
        return max_pool2d(input, self.kernel_size, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode=False"
        )


class AvgPool2d(_Pool2d):
    """Return the mean of every window of images [B, C, H, W]; stride is the kernel's size by default."""

    def forward(self, input: Any) -> Any:
        return avg_pool2d(input, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
