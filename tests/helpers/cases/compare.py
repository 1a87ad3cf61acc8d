"""Comparisons, logic, where and the masks; dtypes by cast."""

import operator

import numpy as np

from tests.helpers.case import booleans, case, distinct, integers, nonzero, normal, positive

COMPARISONS = [
    ("eq", operator.eq),
    ("ne", operator.ne),
    ("lt", operator.lt),
    ("le", operator.le),
    ("gt", operator.gt),
    ("ge", operator.ge),
]
ODD = [-np.inf, -1.0, 0.0, np.nan, 2.0, np.inf]
X, M = normal(3, 4), booleans(3, 4)
N, K = integers(3, 4), integers(4)
CASTS = ["float", "double", "half", "int", "long", "bool"]
BITS = [("&", operator.and_), ("|", operator.or_), ("^", operator.xor)]

CASES = [
    *[case(f"{n} operator", lambda t, x, y, f=f: f(x, y), N, K, ref=f) for n, f in COMPARISONS],
    *[case(n, lambda t, x, y, n=n: getattr(t, n)(x, y), N, K, ref=f) for n, f in COMPARISONS],
    *[case(f"Tensor.{n}", lambda t, x, n=n: getattr(x, n)(2), N, ref=lambda x, f=f: f(x, 2)) for n, f in COMPARISONS],
    *[
        case(f"{n} of floats", lambda t, x, f=f: f(x, 0.5), ODD, ref=lambda x, f=f: f(x, 0.5), orders=None)
        for n, f in COMPARISONS
    ],
    case("comparison of a tensor that requires grad", lambda t, x: (x > 0, x == x), X, orders=None),
    *[case(f"bool {s} bool", lambda t, x, y, f=f: f(x, y), M, booleans(4), ref=f) for s, f in BITS],
    *[case(f"int {s} int", lambda t, x, y, f=f: f(x, y), N, K, ref=f) for s, f in BITS],
    case("~bool", lambda t, x: ~x, M, ref=np.invert),
    case("~int", lambda t, x: ~x, N, ref=np.invert),
    *[
        case(n, lambda t, x, y, n=n: getattr(t, n)(x, y), N, K, ref=getattr(np, n))
        for n in ("logical_and", "logical_or", "logical_xor")
    ],
    case("logical_not", lambda t, x: t.logical_not(x), N, ref=np.logical_not),
    case("Tensor.logical_not", lambda t, x: x.logical_not(), M, ref=np.logical_not),
    case("Tensor.logical_and", lambda t, x, y: x.logical_and(y), M, booleans(4), ref=np.logical_and),
    case("isnan", lambda t, x: t.isnan(x), ODD, ref=np.isnan, orders=None),
    case("isinf", lambda t, x: t.isinf(x), ODD, ref=np.isinf, orders=None),
    case("isfinite", lambda t, x: t.isfinite(x), ODD, ref=np.isfinite, orders=None),
    case("isfinite of ints", lambda t, x: t.isfinite(x), N, ref=np.isfinite),
    case("Tensor.isnan", lambda t, x: x.isnan(), ODD, ref=np.isnan, orders=None),
    case(
        "nan_to_num",
        lambda t, x: t.nan_to_num(x, 0.0, 9.0, -9.0),
        ODD,
        orders=0,
        ref=lambda x: np.nan_to_num(x, nan=0.0, posinf=9.0, neginf=-9.0),
    ),
    case("isclose", lambda t, x, y: t.isclose(x, y), [1.0, 2.0], [1.0 + 1e-7, 2.1], orders=None),
    case("allclose", lambda t, x: t.allclose(x, x + 1e-9), X, ref=lambda x: True, orders=None),
    case("equal", lambda t, x, y: (t.equal(x, x), t.equal(x, y)), N, K, ref=lambda x, y: (True, False)),
    case("where", lambda t, c, x, y: t.where(c, x, y), M, X, normal(4), ref=np.where),
    case("where numbers", lambda t, c, x: t.where(c, x, 0.0), M, X, ref=lambda c, x: np.where(c, x, 0.0)),
    case("where number first", lambda t, c, x: t.where(c, 1.5, x), M, X, ref=lambda c, x: np.where(c, 1.5, x)),
    case(
        "where of a comparison",
        lambda t, x: t.where(x > 0, x, x * 0.1),
        nonzero(3, 4),
        ref=lambda x: np.where(x > 0, x, x * 0.1),
    ),
    case(
        "where broadcasts the mask",
        lambda t, c, x, y: t.where(c, x, y),
        booleans(3, 1),
        normal(4),
        normal(2, 1, 1),
        ref=np.where,
    ),
    case("Tensor.where", lambda t, x, c, y: x.where(c, y), X, M, normal(3, 1), ref=lambda x, c, y: np.where(c, x, y)),
    case("where of ints", lambda t, c, x, y: t.where(c, x, y), M, N, K, ref=np.where),
    case("masked_fill", lambda t, x, m: t.masked_fill(x, m, -50.0), X, M, ref=lambda x, m: np.where(m, -50.0, x)),
    case(
        "Tensor.masked_fill",
        lambda t, x, m: x.masked_fill(m, 0.5),
        X,
        booleans(4),
        ref=lambda x, m: np.where(m, 0.5, x),
    ),
    case(
        "masked_fill tensor",
        lambda t, x, m, v: x.masked_fill(m, v),
        X,
        M,
        normal(),
        ref=lambda x, m, v: np.where(m, v, x),
    ),
    case(
        "masked_fill broadcasts",
        lambda t, x, m: x.masked_fill(m, 1.0),
        X,
        booleans(3, 1),
        ref=lambda x, m: np.where(m, 1.0, x),
    ),
    case("masked_select", lambda t, x, m: t.masked_select(x, m), X, M, ref=lambda x, m: x[m]),
    case(
        "Tensor.masked_select",
        lambda t, x, m: x.masked_select(m),
        X,
        booleans(4),
        ref=lambda x, m: x[np.broadcast_to(m, (3, 4))],
    ),
    *[case(f"Tensor.{c}", lambda t, x, c=c: getattr(x, c)(), positive(3, 4), orders=None) for c in CASTS],
    *[case(f"Tensor.{c} of ints", lambda t, x, c=c: getattr(x, c)(), N) for c in CASTS],
    *[case(f"Tensor.{c} of bools", lambda t, x, c=c: getattr(x, c)(), M) for c in CASTS],
    case("to float64 and back", lambda t, x: (x.to(t.float64) * 2).to(x.dtype), X, ref=lambda x: 2 * x),
    case("to dtype of other", lambda t, x, y: x.to(y), N, X, orders=None),
    case("type_as", lambda t, x, y: y.type_as(x), X, N, orders=None),
    case("double in the middle", lambda t, x: (x.double() ** 2).float(), X, orders=0),
    case("sort", lambda t, x: t.sort(x), distinct(3, 4), ref=lambda x: (np.sort(x), np.argsort(x))),
    case(
        "sort dim 0 descending",
        lambda t, x: tuple(t.sort(x, dim=0, descending=True)),
        distinct(3, 4),
        ref=lambda x: (-np.sort(-x, 0), np.argsort(-x, 0)),
    ),
    case("Tensor.sort", lambda t, x: x.sort(-1, True).values, distinct(3, 4), ref=lambda x: -np.sort(-x)),
    case(
        "sort stable",
        lambda t, x: t.sort(x, stable=True),
        integers(12),
        ref=lambda x: (np.sort(x), np.argsort(x, kind="stable")),
    ),
    case("argsort", lambda t, x: t.argsort(x), distinct(3, 4), ref=np.argsort, orders=None),
    case(
        "argsort descending",
        lambda t, x: x.argsort(dim=0, descending=True),
        distinct(3, 4),
        orders=None,
        ref=lambda x: np.argsort(-x, 0),
    ),
    case("topk", lambda t, x: t.topk(x, 2), distinct(3, 4), ref=lambda x: (-np.sort(-x)[:, :2], np.argsort(-x)[:, :2])),
    case(
        "topk smallest",
        lambda t, x: t.topk(x, 2, dim=0, largest=False),
        distinct(3, 4),
        ref=lambda x: (np.sort(x, 0)[:2], np.argsort(x, 0)[:2]),
    ),
    case("Tensor.topk", lambda t, x: x.topk(3).indices, distinct(6), ref=lambda x: np.argsort(-x)[:3], orders=None),
    case("nonzero", lambda t, x: t.nonzero(x), M, ref=np.argwhere),
    case("nonzero as_tuple", lambda t, x: x.nonzero(as_tuple=True), M, ref=np.nonzero),
    case("count_nonzero", lambda t, x: t.count_nonzero(x), M, ref=lambda x: np.asarray(np.count_nonzero(x))),
    case("unique", lambda t, x: t.unique(x), N, ref=np.unique),
]
