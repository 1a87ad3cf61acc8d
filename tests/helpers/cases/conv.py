"""Convolution and pooling: strides, borders, dilation, one image, channels in either memory order."""

import numpy as np

from tests.helpers.case import case, normal


def distinct(*shape):
    """Numbers far enough apart that finite differences change no maximum."""
    return lambda rng: rng.permutation(np.prod(shape)).reshape(shape) / 4.0


def last(x):
    """The same image with its channels last in memory."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def conv(name, x, w, b=None, **options):
    biases = () if b is None else (normal(b),)
    return case(f"conv2d {name}", lambda t, *a: t.conv2d(*a, **options), normal(*x), normal(*w), *biases)


CASES = [
    conv("3x3", (2, 3, 5, 6), (4, 3, 3, 3), 4),
    conv("no bias", (2, 3, 5, 6), (4, 3, 3, 3)),
    conv("1x1", (2, 3, 4, 4), (2, 3, 1, 1), 2),
    conv("stride", (2, 2, 7, 6), (3, 2, 3, 2), 3, stride=2),
    conv("strides", (1, 2, 7, 6), (3, 2, 2, 3), 3, stride=(3, 1)),
    conv("padding", (2, 2, 4, 5), (3, 2, 3, 3), 3, padding=1),
    conv("paddings and stride", (2, 2, 4, 5), (3, 2, 3, 3), 3, padding=(2, 0), stride=2),
    conv("same", (1, 2, 4, 5), (3, 2, 3, 5), 3, padding="same"),
    conv("valid", (1, 2, 4, 5), (3, 2, 3, 5), 3, padding="valid"),
    conv("dilation", (1, 2, 6, 7), (3, 2, 3, 2), 3, dilation=(2, 3)),
    conv("dilated same", (1, 2, 6, 7), (3, 2, 3, 3), 3, dilation=2, padding="same"),
    conv("one channel", (2, 1, 5, 5), (2, 1, 2, 2), 2),
    conv("one image", (3, 5, 6), (4, 3, 3, 3), 4),
    case(
        "conv2d channels last",
        lambda t, x, w, b: t.conv2d(last(x), w, b, padding=1),
        normal(2, 3, 4, 5),
        normal(4, 3, 3, 3),
        normal(4),
    ),
    case(
        "conv2d twice",
        lambda t, x, w, v: t.conv2d(t.relu(t.conv2d(x, w, padding=1)), v),
        normal(2, 2, 4, 5),
        normal(3, 2, 3, 3),
        normal(2, 3, 2, 2),
    ),
    case("conv2d flattened", lambda t, x, w: t.conv2d(x, w).flatten(1), normal(2, 2, 3, 4), normal(3, 2, 2, 2)),
    case("max_pool2d", lambda t, x: t.max_pool2d(x, 2), distinct(2, 3, 4, 6)),
    case("max_pool2d overlapping", lambda t, x: t.max_pool2d(x, 3, 2, 1), distinct(2, 2, 5, 6)),
    case("max_pool2d dilation", lambda t, x: t.max_pool2d(x, 2, 1, 0, 2), distinct(1, 2, 5, 6)),
    case("max_pool2d one image", lambda t, x: t.max_pool2d(x, (2, 3)), distinct(2, 4, 6)),
    case("max_pool2d channels last", lambda t, x: t.max_pool2d(last(x), 3, 2, 1), distinct(2, 2, 5, 6)),
    case("max_pool2d ties", lambda t, x: t.max_pool2d(x, 2), np.zeros((1, 1, 4, 4)), orders=0),
    case(
        "max_pool2d nan",
        lambda t, x: t.max_pool2d(x, 2),
        np.array([1.0, np.nan, 2.0, 3.0]).reshape(1, 1, 2, 2),
        orders=0,
    ),
    case("avg_pool2d", lambda t, x: t.avg_pool2d(x, 2), normal(2, 3, 4, 6)),
    case("avg_pool2d overlapping", lambda t, x: t.avg_pool2d(x, 3, 2, 1), normal(2, 2, 5, 6)),
    case("avg_pool2d one image", lambda t, x: t.avg_pool2d(x, 2, 1), normal(2, 4, 6)),
]
