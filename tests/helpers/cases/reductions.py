"""Sums, moments, extremes, norms and the soft forms, over all, one and several dimensions."""

import numpy as np

from tests.helpers.case import booleans, case, distinct, integers, normal, positive

X, D = normal(3, 4), distinct(3, 4)
Y = normal(2, 3, 4)


def logsumexp(x, axis=None, keepdims=False):
    m = x.max(axis, keepdims=True)
    out = np.log(np.exp(x - m).sum(axis, keepdims=True)) + m
    return out if keepdims else out.squeeze(axis)


def softmax(x, axis):
    return np.exp(x - logsumexp(x, axis, True))


def _reduce(name, ref, *, make=normal, orders=2):
    """One reduction with every way of naming dimensions that torch and NumPy have in common."""
    f = lambda t, x, **k: getattr(t, name)(x, **k)  # noqa: E731
    y = make(2, 3, 4)
    return [
        case(name, f, y, ref=ref, orders=orders),
        case(f"Tensor.{name}", lambda t, x: getattr(x, name)(), y, ref=ref, orders=orders),
        case(f"{name} of 0-dim", f, make(), ref=ref, orders=orders),
        *[
            case(f"{name} dim={d} keepdim={k}", lambda t, x, d=d, k=k: f(t, x, dim=d, keepdim=k), y,
                 ref=lambda x, d=d, k=k: ref(x, axis=d, keepdims=k), orders=orders)
            for d in (0, 1, -1, (0, 2), (-1, -2)) for k in (False, True)
        ],
        case(f"Tensor.{name} positional", lambda t, x: getattr(x, name)(1, True), y,
             ref=lambda x: ref(x, axis=1, keepdims=True), orders=orders),
        case(f"{name} axis keepdims", lambda t, x: f(t, x, axis=1, keepdims=True), y,
             ref=lambda x: ref(x, axis=1, keepdims=True), orders=orders),
    ]  # fmt: skip


def _pair(ref, arg):
    return lambda x, **k: (ref(x, **k), arg(x, **k))


CASES = [
    *_reduce("sum", np.sum),
    *_reduce("mean", np.mean),
    *_reduce("amax", np.amax, make=distinct),
    *_reduce("amin", np.amin, make=distinct),
    *_reduce("all", np.all, make=booleans),
    *_reduce("any", np.any, make=booleans),
    # numpy.all(axis=(0, 2)) and torch agree; logsumexp has no form without dim, var and std count from ddof
    case("sum of no rows", lambda t, x: x.sum(0), normal(0, 3), ref=lambda x: x.sum(0)),
    case("sum of ints", lambda t, x: x.sum(), integers(3, 4), ref=np.sum),
    case("sum of bools", lambda t, x: x.sum(dim=1), booleans(3, 4), ref=lambda x: x.sum(1)),
    case("sum dtype", lambda t, x: x.sum(dtype=t.float64), X, ref=lambda x: x.sum(dtype=np.float64)),
    case("sum list of dims", lambda t, x: x.sum([0, 1]), Y, ref=lambda x: x.sum((0, 1))),
    case("sum of int dtype", lambda t, x: x.sum(dtype=t.float32), integers(3, 4)),
    case("mean of many", lambda t, x: (x - x.mean()) / 3, X, ref=lambda x: (x - x.mean()) / 3),
    *[
        case(
            f"{n} {key}",
            lambda t, x, n=n, kw=kw: getattr(t, n)(x, **kw),
            Y,
            ref=lambda x, n=n, kw=kw: getattr(np, n)(
                x,
                axis=kw.get("dim"),
                ddof=kw.get("correction", int(kw.get("unbiased", 1))),
                keepdims=kw.get("keepdim", False),
            ),
        )
        for n in ("var", "std")
        for key, kw in {
            "": {},
            "dim": {"dim": 1},
            "dims": {"dim": (0, 2)},
            "keepdim": {"dim": -1, "keepdim": True},
            "correction": {"dim": 0, "correction": 0},
            "correction alone": {"correction": 0},
            "unbiased": {"unbiased": False},
        }.items()
    ],
    case("std of equals", lambda t, x: x.std(), [2.0, 2.0], orders=0),
    case("Tensor.std", lambda t, x: x.std(), X, ref=lambda x: x.std(ddof=1)),
    case("Tensor.var positional", lambda t, x: x.var(0), X, ref=lambda x: x.var(0, ddof=1)),
    case("Tensor.std unbiased", lambda t, x: x.std(unbiased=False), X, ref=np.std),
    case(
        "normalise advantages",
        lambda t, x: (x - x.mean()) / (x.std() + 1e-8),
        normal(16),
        ref=lambda x: (x - x.mean()) / (x.std(ddof=1) + 1e-8),
    ),
    case("prod", lambda t, x: t.prod(x), X, ref=np.prod),
    case("prod dim", lambda t, x: t.prod(x, 1), X, ref=lambda x: x.prod(1)),
    case("prod keepdim", lambda t, x: x.prod(dim=0, keepdim=True), X, ref=lambda x: x.prod(0, keepdims=True)),
    case("prod of ints", lambda t, x: x.prod(), integers(4, low=1), ref=np.prod),
    case("prod with one zero", lambda t, x: x.prod(-1), [[1.0, 0.0, 3.0], [2.0, 3.0, 4.0]], ref=lambda x: x.prod(-1)),
    case("prod with two zeros", lambda t, x: x.prod(), [2.0, 0.0, 0.0, 5.0], ref=np.prod, orders=1),
    # Extremes with indices
    case("max", lambda t, x: t.max(x), D, ref=np.max),
    case("min", lambda t, x: x.min(), D, ref=np.min),
    case("max dim", lambda t, x: t.max(x, 1), D, ref=lambda x: (x.max(1), x.argmax(1))),
    case("max dim values", lambda t, x: x.max(dim=0).values, D, ref=lambda x: x.max(0)),
    case("max dim indices", lambda t, x: x.max(-1).indices, D, ref=lambda x: x.argmax(-1), orders=None),
    case("max dim [0]", lambda t, x: x.max(1)[0], D, ref=lambda x: x.max(1)),
    case(
        "min dim keepdim",
        lambda t, x: t.min(x, dim=0, keepdim=True),
        D,
        ref=lambda x: (x.min(0, keepdims=True), x.argmin(0)[None]),
    ),
    case("max of ints", lambda t, x: x.max(), integers(3, 4), ref=np.max),
    case(
        "max dim of 3 dims",
        lambda t, x: x.max(1, keepdim=True).values,
        distinct(2, 3, 4),
        ref=lambda x: x.max(1, keepdims=True),
    ),
    *[
        case(
            f"{n} {key}",
            lambda t, x, n=n, kw=kw: getattr(t, n)(x, **kw),
            D,
            orders=None,
            ref=lambda x, n=n, kw=kw: getattr(np, n)(x, axis=kw.get("dim"), keepdims=kw.get("keepdim", False)),
        )
        for n in ("argmax", "argmin")
        for key, kw in {"": {}, "dim": {"dim": 1}, "keepdim": {"dim": 0, "keepdim": True}}.items()
    ],
    case("Tensor.argmax", lambda t, x: x.argmax(-1), D, ref=lambda x: x.argmax(-1), orders=None),
    case("argmax takes the first of equals", lambda t, x: x.argmax(), [1.0, 3.0, 3.0], ref=np.argmax, orders=None),
    case("amax at ties", lambda t, x: x.amax(), [1.0, 3.0, 3.0], orders=0),
    case("amax dim at ties", lambda t, x: x.amax(1), [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], orders=0),
    case("max at ties", lambda t, x: x.max(), [1.0, 3.0, 3.0], orders=0),
    case("max dim at ties", lambda t, x: x.max(0).values, [1.0, 3.0, 3.0], orders=0),
    case("min with nan", lambda t, x: (x.min(), x.max(), x.amax()), [1.0, np.nan, 3.0], orders=None),
    case("median", lambda t, x: t.median(x), distinct(5), ref=np.median),
    case("median of an even number", lambda t, x: t.median(x), distinct(6), ref=lambda x: np.sort(x)[2]),
    # Soft forms
    case("logsumexp", lambda t, x: t.logsumexp(x, 1), X, ref=lambda x: logsumexp(x, 1)),
    case("logsumexp dims", lambda t, x: t.logsumexp(x, (0, 1)), X, ref=logsumexp),
    case("Tensor.logsumexp", lambda t, x: x.logsumexp(dim=-1, keepdim=True), X, ref=lambda x: logsumexp(x, -1, True)),
    case("logsumexp of large", lambda t, x: x.logsumexp(0), [1000.0, 1000.0, -1000.0], ref=lambda x: logsumexp(x, 0)),
    case("logsumexp with -inf", lambda t, x: x.logsumexp(-1), [[-np.inf, 1.0], [2.0, 3.0]], orders=0),
    *[case(f"softmax {d}", lambda t, x, d=d: t.softmax(x, d), Y, ref=lambda x, d=d: softmax(x, d)) for d in (0, 1, -1)],
    *[
        case(
            f"log_softmax {d}",
            lambda t, x, d=d: t.log_softmax(x, dim=d),
            Y,
            ref=lambda x, d=d: x - logsumexp(x, d, True),
        )
        for d in (0, 1, -1)
    ],
    case("Tensor.softmax", lambda t, x: x.softmax(dim=-1), X, ref=lambda x: softmax(x, -1)),
    case("Tensor.log_softmax", lambda t, x: x.log_softmax(-1), X, ref=lambda x: x - logsumexp(x, -1, True)),
    case("softmax of large", lambda t, x: t.softmax(x, -1), [1000.0, 0.0, -1000.0], orders=0),
    case("log_softmax of large", lambda t, x: t.log_softmax(x, -1), [1000.0, 0.0, -1000.0], orders=0),
    case("log_softmax of masked", lambda t, x: t.log_softmax(x, -1), [[1.0, -1e8, 2.0], [-1e8, -1e8, 0.5]], orders=0),
    case("softmax of 0-dim", lambda t, x: t.softmax(x, 0), normal(), ref=np.ones_like),
    case(
        "entropy",
        lambda t, x: -(t.softmax(x, -1) * t.log_softmax(x, -1)).sum(-1),
        X,
        ref=lambda x: -(softmax(x, -1) * np.log(softmax(x, -1))).sum(-1),
    ),
    case("cumsum", lambda t, x: t.cumsum(x, 0), X, ref=lambda x: x.cumsum(0)),
    case("Tensor.cumsum", lambda t, x: x.cumsum(dim=-1), Y, ref=lambda x: x.cumsum(-1)),
    case("cumsum of ints", lambda t, x: x.cumsum(0), integers(5), ref=np.cumsum),
    case("cumsum of bools", lambda t, x: x.cumsum(0), booleans(5), ref=np.cumsum),
    case("cumprod", lambda t, x: t.cumprod(x, 1), X, ref=lambda x: x.cumprod(1)),
    case("Tensor.cumprod", lambda t, x: x.cumprod(dim=0), positive(3, 4), ref=lambda x: x.cumprod(0)),
    case("cumprod with a zero", lambda t, x: x.cumprod(0), [2.0, 0.0, 3.0, 4.0], ref=np.cumprod, orders=1),
]
