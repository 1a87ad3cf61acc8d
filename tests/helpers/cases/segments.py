"""Reductions over segments, against a loop over them; segments without rows stand at every place."""

import numpy as np

from tests.helpers.case import case, normal

LENGTHS = {"full": [2, 1, 4], "one": [7], "gaps": [0, 3, 0, 0, 4, 0], "single rows": [1] * 7}


def loop(name):
    """The same on torch tensors, whose segments are split off one by one."""

    def sum_(t, part):
        return part.sum(0)

    def mean(t, part):
        return part.mean(0) if len(part) else part.sum(0)

    def max_(t, part):
        return part.amax(0) if len(part) else part.sum(0)

    reduce = {"segment_sum": sum_, "segment_mean": mean, "segment_max": max_}

    def run(t, x, lengths):
        parts = x.split(lengths)
        if name == "segment_softmax":
            return t.cat([part.softmax(0) for part in parts])
        return t.stack([reduce[name](t, part) for part in parts])

    return run


def reference(name):
    def run(x, lengths):
        parts = np.split(x, np.cumsum(lengths)[:-1])
        if name == "segment_softmax":
            return np.concatenate([np.exp(p) / np.exp(p).sum(0) for p in parts])
        zero = np.zeros(x.shape[1:])
        reduce = {"segment_sum": np.sum, "segment_mean": np.mean, "segment_max": np.max}[name]
        return np.stack([reduce(p, axis=0) if len(p) else zero for p in parts])

    return run


def _segments(name, label, lengths, *shape):
    def run(t, x):
        ours = hasattr(t, name)
        return getattr(t, name)(x, lengths) if ours else loop(name)(t, x, lengths)

    return case(f"{name} {label} {shape}", run, normal(7, *shape), ref=lambda x: reference(name)(x, lengths))


def _expand(t, x):
    lengths = [2, 0, 3]
    return t.segment_expand(x, lengths) if hasattr(t, "segment_expand") else x[[0, 0, 2, 2, 2]]


CASES = [
    *[
        _segments(name, label, lengths, *shape)
        for name in ("segment_sum", "segment_mean", "segment_max", "segment_softmax")
        for label, lengths in LENGTHS.items()
        for shape in ((), (2,), (2, 3))
        if shape != (2, 3) or label == "gaps"
    ],
    case("segment_expand", _expand, normal(3, 2), ref=lambda x: x[[0, 0, 2, 2, 2]]),
]
