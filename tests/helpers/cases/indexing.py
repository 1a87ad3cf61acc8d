"""Reading by index: basic, advanced, mixed; gather and its relatives."""

import numpy as np

from tests.helpers.case import booleans, case, integers, normal

X, Y = normal(4, 5), normal(3, 4, 5)
BASIC = [
    "x[1]", "x[-1]", "x[1:3]", "x[::2]", "x[:, 2]", "x[1, 2]", "x[-2:, 1:-1]", "x[..., 0]", "x[0, ...]", "x[...]",
    "x[None]", "x[:, None, 1]", "x[1:1]", "x[:, 1:4:2]", "x[..., None]", "x[(1, 2)]", "x[None, ..., -1]", "x[:]",
]  # fmt: skip
# i, j: integer tensors of shape (2,); m: a mask of the rows; k: a mask of everything
ADVANCED = [
    "x[i]", "x[i, j]", "x[:, j]", "x[i, 1]", "x[1, j]", "x[i, 1:4]", "x[i[:, None], j]", "x[m]", "x[m, 1]", "x[k]",
    "x[i, None]", "x[i[:, None], [[0, 1, 2]]]", "x[[0, 2]]", "x[[0, 0, 0, 1]]", "x[m][:, j]", "x[i, :]", "x[-i - 1]",
    "x[..., j]", "x[~k]", "x[m, :, None]", "x[i[0], j]", "x[i[:0]]",
]  # fmt: skip


def _basic(source):
    f = eval(f"lambda x: {source}")
    return case(source, lambda t, x: f(x), X, ref=f)


def _advanced(source):
    f = eval(f"lambda x, i, j, m, k: {source}")
    return case(source, lambda t, *a: f(*a), X, [3, 1], [0, 4], [True, False, True, True], booleans(4, 5), ref=f)


def _scatter(x, dim, index, src):
    out = x.copy()
    np.put_along_axis(out, index, src[tuple(map(slice, index.shape))] if np.ndim(src) else src, dim)
    return out


def scatter_add(x, dim, index, src):
    out = x.copy()
    for at in np.ndindex(index.shape):
        to = list(at)
        to[dim] = index[at]
        out[tuple(to)] += src[at]
    return out


def index_add(x, dim, index, src):
    out = x.copy()
    for n, to in enumerate(index):
        np.moveaxis(out, dim, 0)[to] += np.moveaxis(src, dim, 0)[n]
    return out


UNIQUE = [[0, 2, 1, 3, 3], [1, 0, 2, 2, 1]]  # rows to write in each column, none twice

CASES = [
    *[_basic(source) for source in BASIC],
    *[_advanced(source) for source in ADVANCED],
    # A lone integer beside a slice is taken first in torch; NumPy would move the indexed dimension to the front
    case("x[1, :, j]", lambda t, x, j: x[1, :, j], Y, [0, 2, 2], ref=lambda x, j: x[1][:, j]),
    case("x[n, :, j] with a 0-dim n", lambda t, x, n, j: x[n, :, j], Y, 1, [0, 2, 2], ref=lambda x, n, j: x[n][:, j]),
    case("x[i, :, j]", lambda t, x, i, j: x[i, :, j], Y, [0, 2, 2], [1, 1, 4], ref=lambda x, i, j: x[i, :, j]),
    case("x[:, i, j]", lambda t, x, i, j: x[:, i, j], Y, [0, 2, 2], [1, 1, 4], ref=lambda x, i, j: x[:, i, j]),
    case("x[m] of 3 dims", lambda t, x, m: x[m], Y, booleans(3, 4), ref=lambda x, m: x[m]),
    case("x[:, m]", lambda t, x, m: x[:, m], Y, booleans(4), ref=lambda x, m: x[:, m]),
    case("duplicates add up", lambda t, x, i: (x[i] ** 2).sum(0), X, [1, 1, 1, 2], ref=lambda x, i: (x[i] ** 2).sum(0)),
    case("index of 0-dim tensor", lambda t, x, i: x[i], X, 2, ref=lambda x, i: x[i]),
    case("mask 0-dim", lambda t, x: x[True], normal(3), ref=lambda x: x[True]),
    case(
        "log_probs[range, action]",
        lambda t, x, i, a: x.log_softmax(-1)[i, a],
        X,
        [0, 1, 2, 3],
        integers(4),
        ref=lambda x, i, a: (x - np.log(np.exp(x).sum(-1, keepdims=True)))[i, a],
    ),
    case(
        "gather 0",
        lambda t, x, i: t.gather(x, 0, i),
        X,
        integers(3, 5, high=4),
        ref=lambda x, i: np.take_along_axis(x, i, 0),
    ),
    case(
        "Tensor.gather -1",
        lambda t, x, i: x.gather(-1, i),
        X,
        integers(4, 2),
        ref=lambda x, i: np.take_along_axis(x, i, -1),
    ),
    case(
        "gather fewer rows",
        lambda t, x, i: x.gather(1, i),
        X,
        integers(2, 3),
        ref=lambda x, i: np.take_along_axis(x[:2], i, 1),
    ),
    case(
        "q.gather(1, action)",
        lambda t, x, a: x.gather(1, a.unsqueeze(1)).squeeze(1),
        X,
        integers(4),
        ref=lambda x, a: x[np.arange(4), a],
    ),
    case(
        "gather 3 dims",
        lambda t, x, i: x.gather(1, i),
        Y,
        integers(3, 2, 5, high=4),
        ref=lambda x, i: np.take_along_axis(x, i, 1),
    ),
    case(
        "take_along_dim",
        lambda t, x, i: t.take_along_dim(x, i, dim=1),
        X,
        integers(4, 2),
        ref=lambda x, i: np.take_along_axis(x, i, 1),
    ),
    case("take", lambda t, x, i: t.take(x, i), X, integers(2, 3, high=20), ref=np.take),
    case("index_select", lambda t, x, i: t.index_select(x, 0, i), X, [2, 0, 2], ref=lambda x, i: x[i]),
    case("Tensor.index_select", lambda t, x, i: x.index_select(-1, i), X, [4, 4, 0], ref=lambda x, i: x[:, i]),
    case(
        "scatter",
        lambda t, x, i, s: t.scatter(x, 0, i, s),
        X,
        UNIQUE,
        normal(2, 5),
        ref=lambda x, i, s: _scatter(x, 0, i, s),
    ),
    case(
        "scatter part of the source",
        lambda t, x, i, s: x.scatter(0, i, s),
        X,
        UNIQUE,
        normal(4, 5),
        orders=None,
        ref=lambda x, i, s: _scatter(x, 0, i, s),
    ),
    case("scatter number", lambda t, x, i: x.scatter(0, i, 1.5), X, UNIQUE, ref=lambda x, i: _scatter(x, 0, i, 1.5)),
    case(
        "scatter one hot",
        lambda t, a: t.zeros(4, 5, device=a.device).scatter(1, a.unsqueeze(1), 1.0),
        integers(4),
        orders=None,
    ),
    case(
        "scatter_add",
        lambda t, x, i, s: t.scatter_add(x, 1, i, s),
        X,
        integers(4, 3),
        normal(4, 3),
        ref=lambda x, i, s: scatter_add(x, 1, i, s),
    ),
    case(
        "Tensor.scatter_add",
        lambda t, x, i, s: x.scatter_add(0, i, s),
        X,
        integers(2, 5, high=4),
        normal(2, 5),
        ref=lambda x, i, s: scatter_add(x, 0, i, s),
    ),
    case(
        "index_add",
        lambda t, x, i, s: t.index_add(x, 0, i, s),
        X,
        [1, 1, 3],
        normal(3, 5),
        ref=lambda x, i, s: index_add(x, 0, i, s),
    ),
    case(
        "Tensor.index_add alpha",
        lambda t, x, i, s: x.index_add(1, i, s, alpha=2),
        X,
        [0, 4, 0],
        normal(4, 3),
        ref=lambda x, i, s: index_add(x, 1, i, 2 * s),
    ),
    case("one_hot", lambda t, i: t.one_hot(i, 5), integers(2, 3), ref=lambda i: np.eye(5, dtype=np.int64)[i]),
    case("one_hot counts classes", lambda t, i: t.one_hot(i), [0, 3, 1], ref=lambda i: np.eye(4, dtype=np.int64)[i]),
]
