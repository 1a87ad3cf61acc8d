"""Convolution and pooling of images [B, C, H, W], by matrix products over unfolded windows (im2col).

Internally images are stored channels last, [B, H, W, C]: the matrix product returns this order, and windows unfold
fastest in it (kernel width x channels contiguous numbers). `conv2d` copies other inputs into this order and returns a
view [B, C, H, W] of its output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.ops.affine import activate, before_activation, column_sums
from dynarl.autograd.ops.indexing import _spread, _spread_along
from dynarl.autograd.ops.linalg import einsum
from dynarl.autograd.tape import primitive

Pair = tuple[int, int]
_COLUMNS = 2 << 20  # bytes of columns unfolded at a time


class Windows(NamedTuple):
    """The positions of a kernel on an image; all pairs are (vertical, horizontal)."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    def out(self, height: int, width: int) -> Pair:
        """Return the number of positions (vertical, horizontal) in an image: its output size."""
        sizes = []
        for n, k, s, p, d in zip((height, width), self.kernel, self.stride, self.padding, self.dilation):
            size = (n + 2 * p - d * (k - 1) - 1) // s + 1
            if size < 1:
                raise ValueError(f"the kernel {self.kernel} must fit into the image with its padding {self.padding}")
            sizes.append(size)
        return sizes[0], sizes[1]

    def slices(self, out: Pair) -> list[tuple[int, int, slice, slice]]:
        """Return (i, j, rows, columns): the pixels of the padded image that element (i, j) of the kernel meets."""
        (sy, sx), (dy, dx) = self.stride, self.dilation
        return [
            (i, j, slice(i * dy, i * dy + sy * out[0], sy), slice(j * dx, j * dx + sx * out[1], sx))
            for i in range(self.kernel[0])
            for j in range(self.kernel[1])
        ]

    def positions(self, out: Pair, width: int) -> Any:
        """Return the flat indices [positions, kernel elements] of the pixels of each window in the padded image."""
        y = np.arange(out[0])[:, None] * self.stride[0] + np.arange(self.kernel[0]) * self.dilation[0]
        x = np.arange(out[1])[:, None] * self.stride[1] + np.arange(self.kernel[1]) * self.dilation[1]
        return (y[:, None, :, None] * width + x[None, :, None, :]).reshape(out[0] * out[1], -1)


def _check_image(x: Any) -> None:
    if x.ndim != 4:
        raise ValueError("images must be [B, C, H, W]")
    if x.dtype.kind != "f":
        raise TypeError("images must be floating point: convert them with .float() first")


def _padded(x: Any, padding: Pair, fill: float = 0.0) -> Any:
    """Return x [B, C, H, W] with a border, in the memory order of x."""
    py, px = padding
    if not py and not px:
        return x
    b, c, h, w = x.shape
    np_ = xp(x)
    if _channels_last(x):
        out = np_.full((b, h + 2 * py, w + 2 * px, c), fill, x.dtype).transpose(0, 3, 1, 2)
    else:
        out = np_.full((b, c, h + 2 * py, w + 2 * px), fill, x.dtype)
    out[:, :, py : py + h, px : px + w] = x
    return out


def _channels_last(x: Any) -> bool:
    return bool(x.shape[1] > 1 and x.strides[1] == x.itemsize)


def _check_operands(x: Any, weight: Any) -> None:
    _check_image(x)
    if weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise ValueError("x must be [B, C, H, W] and weight [O, C, ky, kx] with the same C")
    if x.dtype != weight.dtype:
        raise TypeError("x and weight must have one dtype")


def _columns(image: Any, windows: Windows, out: Pair) -> Iterator[tuple[slice, Any]]:
    """Unfold an image [B, H, W, C] in blocks of samples: yield (slice of output rows, windows [rows, kernel * C]).

    A block is small enough for its windows to stay in cache between the copy and the product: the first layer of the
    Nature network at batch size 32 takes 2.5 ms instead of 3.6. A block is valid until the next one is requested.
    """
    b, c, (ky, kx), count = image.shape[0], image.shape[3], windows.kernel, out[0] * out[1]
    np_ = xp(image)
    if np_ is not np:
        whole = np_.empty((b, *out, ky, kx, c), image.dtype)
        for i, j, rows, cols in windows.slices(out):
            whole[:, :, :, i, j] = image[:, rows, cols]
        yield slice(None), whole.reshape(b * count, -1)
        return
    sb, sh, sw, sc = image.strides
    (sy, sx), (dy, dx) = windows.stride, windows.dilation
    strides = (sb, sh * sy, sw * sx, sh * dy, sw * dx, sc)
    # [B, oy, ox, ky, kx, C]: a view in which pixels repeat, so it must not be written to
    seen = np.lib.stride_tricks.as_strided(image, (b, *out, ky, kx, c), strides, writeable=False)
    step = max(1, min(b, _COLUMNS // max(1, seen[:1].nbytes)))
    block = np.empty((step, *seen.shape[1:]), image.dtype)
    for start in range(0, b, step):
        part = seen[start : start + step]
        columns = block[: len(part)]
        np.copyto(columns, part)
        yield slice(start * count, (start + len(part)) * count), columns.reshape(len(part) * count, -1)


def _conv2d_lifted(x: Any, weight: Any, bias: Any = None, *, windows: Windows, activation: str | None = None) -> Any:
    """The gradients of `conv2d` composed of differentiable operations, for create_graph=True."""
    (b, c, h, w), (py, px) = x.shape, windows.padding
    out = windows.out(h, w)
    shape = (b, c, (h + 2 * py) * (w + 2 * px))
    at = (slice(None), slice(None), xp(x.array).asarray(windows.positions(out, w + 2 * px)))
    inner = (slice(None), slice(None), slice(py, py + h), slice(px, px + w))
    padded = _spread(x, index=inner, shape=(b, c, h + 2 * py, w + 2 * px))
    columns = padded.reshape(shape)[at]  # [B, C, positions, kernel]
    flat = weight.reshape(weight.shape[0], c, -1)
    y = einsum("ock,bclk->bol", flat, columns)
    if bias is not None:
        y = y + bias.reshape(1, -1, 1)

    def vjp(g: Any, needs: Any) -> Any:
        g = g.reshape(y.shape)
        if activation is not None:
            g = g * (y > 0)
        dw = einsum("bol,bclk->ock", g, columns).reshape(weight.shape)
        folded = _spread(einsum("ock,bol->bclk", flat, g), index=at, shape=shape)
        return folded.reshape(padded.shape)[inner], dw, g.sum((0, 2))

    return vjp


@primitive(lifted=_conv2d_lifted)
def _conv2d(x: Any, weight: Any, bias: Any = None, *, windows: Windows, activation: str | None = None) -> Any:
    """Correlate x [B, C, H, W] with weight [O, C, ky, kx], add bias [O] (or None), apply None or "relu"."""
    _check_operands(x, weight)
    np_ = xp(x)
    (b, c, h, w), count = x.shape, weight.shape[0]
    (py, px), out = windows.padding, windows.out(h, w)
    image = np_.ascontiguousarray(_padded(x, windows.padding).transpose(0, 2, 3, 1))
    kernel = weight.transpose(0, 2, 3, 1).reshape(count, -1)  # [O, C, ky, kx] -> [O, ky * kx * C]
    y = np_.empty((b * out[0] * out[1], count), x.dtype)
    for rows, columns in _columns(image, windows, out):
        part = y[rows]
        np_.dot(columns, kernel.T, out=part)
        if bias is not None:
            part += bias
        activate(np_, activation, part)

    def vjp(g: Any, needs: Any) -> Any:
        g = g.transpose(0, 2, 3, 1).reshape(-1, count)  # [B, O, oy, ox] -> [B * oy * ox, O]
        if activation is not None:
            g = before_activation(np_, activation, y, g)
        want_x, want_weight, *want_bias = needs
        dx = dw = db = None
        if want_weight is not False:
            dw = np_.zeros(kernel.shape, kernel.dtype)
            for rows, columns in _columns(
                image, windows, out
            ):  # unfolding again costs less than keeping all windows in memory
                dw += g[rows].T.dot(columns)
            dw = dw.reshape(count, *windows.kernel, c).transpose(0, 3, 1, 2)
        if want_bias and want_bias[0] is not False:
            db = column_sums(np_, g)
        if want_x is not False:
            dx = _fold(g.dot(kernel), image, windows, out)[:, py : py + h, px : px + w].transpose(0, 3, 1, 2)
        return dx, dw, db

    return y.reshape(b, *out, count).transpose(0, 3, 1, 2), vjp


def _fold(rows: Any, image: Any, windows: Windows, out: Pair) -> Any:
    """Add the rows of all windows at the pixels they were taken from (col2im), [B, H, W, C] as `image`."""
    pieces = rows.reshape(image.shape[0], *out, *windows.kernel, image.shape[3])
    total = xp(rows).zeros(image.shape, rows.dtype)
    for i, j, y, x in windows.slices(out):
        total[:, y, x] += pieces[:, :, :, i, j]
    return total


def _max_pool2d_lifted(x: Any, *, windows: Windows) -> Any:
    (b, c, h, w), (py, px) = x.shape, windows.padding
    out = windows.out(h, w)
    padded = _padded(x.array, windows.padding, -np.inf)
    np_ = xp(x.array)
    seen = np_.asarray(windows.positions(out, w + 2 * px))
    which = np_.ascontiguousarray(padded).reshape(b, c, -1)[:, :, seen].argmax(axis=-1)
    index = np_.take_along_axis(seen[None, None], which[..., None], axis=-1)[..., 0]
    shape = (b, c, (h + 2 * py) * (w + 2 * px))

    def vjp(g: Any) -> Any:
        image = _spread_along(g.reshape(b, c, -1), index=index, axis=-1, shape=shape)
        return image.reshape(b, c, h + 2 * py, w + 2 * px)[:, :, py : py + h, px : px + w]

    return (vjp,)


@primitive(lifted=_max_pool2d_lifted)
def _max_pool2d(x: Any, *, windows: Windows) -> Any:
    """Return the largest element of every window; the gradient goes to the first of equal elements."""
    _check_image(x)
    np_ = xp(x)
    out = windows.out(*x.shape[2:])
    padded = _padded(x, windows.padding, -np.inf)
    slices = windows.slices(out)
    best = padded[:, :, slices[0][2], slices[0][3]].copy()
    which = np_.zeros_like(best, dtype=np.uint16)
    for k, (_, _, rows, columns) in enumerate(slices[1:], 1):
        other = padded[:, :, rows, columns]
        larger = (other > best) | (other != other)  # a NaN wins, as in PyTorch
        np_.copyto(best, other, where=larger)
        which[larger] = k

    def vjp(g: Any) -> Any:
        image = np_.zeros_like(padded)
        for k, (_, _, rows, columns) in enumerate(slices):
            image[:, :, rows, columns] += g * (which == k)
        (py, px), (h, w) = windows.padding, x.shape[2:]
        return image[:, :, py : py + h, px : px + w]

    return best, (vjp,)


def _avg_pool2d_lifted(x: Any, *, windows: Windows) -> Any:
    (b, c, h, w), (py, px) = x.shape, windows.padding
    out = windows.out(h, w)
    seen = xp(x.array).asarray(windows.positions(out, w + 2 * px))
    at, shape = (slice(None), slice(None), seen), (b, c, (h + 2 * py) * (w + 2 * px))

    def vjp(g: Any) -> Any:
        share = (g * (1.0 / seen.shape[1])).reshape(b, c, -1, 1).expand((b, c, *seen.shape))
        image = _spread(share, index=at, shape=shape).reshape(b, c, h + 2 * py, w + 2 * px)
        return image[:, :, py : py + h, px : px + w]

    return (vjp,)


@primitive(lifted=_avg_pool2d_lifted, linear=True)
def _avg_pool2d(x: Any, *, windows: Windows) -> Any:
    """Return the mean of every window; a border counts as zeros."""
    _check_image(x)
    out = windows.out(*x.shape[2:])
    padded = _padded(x, windows.padding)
    slices = windows.slices(out)
    scale = 1.0 / len(slices)
    total = padded[:, :, slices[0][2], slices[0][3]].copy()
    for _, _, rows, columns in slices[1:]:
        total += padded[:, :, rows, columns]
    total *= scale

    def vjp(g: Any) -> Any:
        image = xp(padded).zeros_like(padded)
        share = g * scale
        for _, _, rows, columns in slices:
            image[:, :, rows, columns] += share
        (py, px), (h, w) = windows.padding, x.shape[2:]
        return image[:, :, py : py + h, px : px + w]

    return total, (vjp,)


def _pair(value: Any, name: str, least: int) -> Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or any(not isinstance(v, int) or v < least for v in pair):
        raise ValueError(f"{name}: must be one or two whole numbers of at least {least}, got {value!r}")
    return pair[0], pair[1]


def windows_of(kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Windows:
    """Return where a kernel stands; each argument is a number or a pair, padding also "valid" or "same"."""
    kernel, strides = _pair(kernel_size, "kernel_size", 1), _pair(stride, "stride", 1)
    spread = _pair(dilation, "dilation", 1)
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, spread)]
        if strides != (1, 1) or any(t % 2 for t in total):
            raise ValueError(
                f"padding: 'same' needs stride 1 and an odd kernel, got stride {strides} and kernel {kernel}; "
                "give the padding in numbers"
            )
        padding = (total[0] // 2, total[1] // 2)
    elif padding == "valid":
        padding = 0
    return Windows(kernel, strides, _pair(padding, "padding", 0), spread)


def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Correlate images [B, C, H, W] (or [C, H, W]) with weight [O, C, ky, kx] and add bias [O]."""
    if groups != 1:
        raise ValueError(f"conv2d: groups must be 1, got {groups}; grouped convolutions are not offered")
    windows = windows_of(tuple(weight.shape[2:]), stride, padding, dilation)
    single = input.ndim == 3
    y = _conv2d(input.unsqueeze(0) if single else input, weight, bias, windows=windows)
    return y.squeeze(0) if single else y


def conv2d_relu(input: Any, weight: Any, bias: Any, windows: Windows) -> Any:
    """Return relu(conv2d(...)) in one step."""
    return _conv2d(input, weight, bias, windows=windows, activation="relu")


def max_pool2d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1) -> Any:
    """Return the largest element of every window of images [B, C, H, W] (or [C, H, W])."""
    return _pooled(_max_pool2d, input, _pool_windows("max_pool2d", kernel_size, stride, padding, dilation))


def avg_pool2d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """Return the mean of every window of images [B, C, H, W] (or [C, H, W]); a border counts as zeros."""
    return _pooled(_avg_pool2d, input, _pool_windows("avg_pool2d", kernel_size, stride, padding))


def _pool_windows(name: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> Windows:
    windows = windows_of(kernel_size, kernel_size if stride is None else stride, padding, dilation)
    if any(2 * p > k for p, k in zip(windows.padding, windows.kernel)):
        raise ValueError(
            f"{name}: padding must be at most half of the kernel, got {windows.padding} and {windows.kernel}"
        )
    return windows


def _pooled(op: Any, input: Any, windows: Windows) -> Any:
    return op(input.unsqueeze(0), windows=windows).squeeze(0) if input.ndim == 3 else op(input, windows=windows)


__all__ = ["avg_pool2d", "conv2d", "conv2d_relu", "max_pool2d", "windows_of"]
