"""Products of matrices and vectors in every rank torch takes, einsum, linear."""

import numpy as np

from tests.helpers.case import case, integers, normal, positive

MATMUL = [
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((1, 3), (3, 1)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (2, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
]
EINSUM = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)),
    ("bij,kj->bik", (5, 2, 3), (4, 3)),
    ("i,i->", (3,), (3,)),
    ("i,j->ij", (3,), (4,)),
    ("ij,ij->i", (2, 3), (2, 3)),
    ("...ij,...jk->...ik", (5, 2, 3), (5, 3, 4)),
    ("bqhd,bkhd->bhqk", (2, 3, 2, 4), (2, 5, 2, 4)),
    ("ij,j->", (2, 3), (3,)),
]
EINSUM_ONE = [("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ii->", (3, 3)), ("ii->i", (3, 3)), ("ijk->kj", (2, 3, 4))]


def linear(x, w, b=0.0):
    return x @ w.T + b


CASES = [
    *[
        case(f"matmul {a} {b}", lambda t, x, y: t.matmul(x, y), normal(*a), normal(*b), ref=np.matmul)
        for a, b in MATMUL
    ],
    case("x @ y", lambda t, x, y: x @ y, normal(2, 3), normal(3, 4), ref=np.matmul),
    case("Tensor.matmul", lambda t, x, y: x.matmul(y), normal(2, 3), normal(3), ref=np.matmul),
    case("x @ x.T", lambda t, x: x @ x.T, normal(2, 3), ref=lambda x: x @ x.T),
    case("matmul of views", lambda t, x, y: x.T @ y[::2], normal(2, 3), normal(4, 5), ref=lambda x, y: x.T @ y[::2]),
    case("int matmul", lambda t, x, y: x @ y, integers(2, 3), integers(3, 4), ref=np.matmul),
    case("mm", lambda t, x, y: t.mm(x, y), normal(2, 3), normal(3, 4), ref=np.matmul),
    case("Tensor.mm", lambda t, x, y: x.mm(y), normal(2, 3), normal(3, 4), ref=np.matmul),
    case("bmm", lambda t, x, y: t.bmm(x, y), normal(5, 2, 3), normal(5, 3, 4), ref=np.matmul),
    case("Tensor.bmm", lambda t, x, y: x.bmm(y), normal(5, 2, 3), normal(5, 3, 4), ref=np.matmul),
    case("mv", lambda t, x, y: t.mv(x, y), normal(2, 3), normal(3), ref=np.matmul),
    case("dot", lambda t, x, y: t.dot(x, y), normal(3), normal(3), ref=np.dot),
    case("Tensor.dot", lambda t, x, y: x.dot(y), normal(3), normal(3), ref=np.dot),
    case("outer", lambda t, x, y: t.outer(x, y), normal(3), normal(4), ref=np.outer),
    case(
        "addmm",
        lambda t, b, x, y: t.addmm(b, x, y),
        normal(4),
        normal(2, 3),
        normal(3, 4),
        ref=lambda b, x, y: b + x @ y,
    ),
    case(
        "addmm beta alpha",
        lambda t, b, x, y: t.addmm(b, x, y, beta=0.5, alpha=2),
        normal(2, 4),
        normal(2, 3),
        normal(3, 4),
        ref=lambda b, x, y: 0.5 * b + 2 * x @ y,
    ),
    case(
        "baddbmm",
        lambda t, b, x, y: t.baddbmm(b, x, y),
        normal(5, 2, 4),
        normal(5, 2, 3),
        normal(5, 3, 4),
        ref=lambda b, x, y: b + x @ y,
    ),
    *[
        case(
            f"einsum {s}",
            lambda t, x, y, s=s: t.einsum(s, x, y),
            normal(*a),
            normal(*b),
            ref=lambda x, y, s=s: np.einsum(s, x, y),
        )
        for s, a, b in EINSUM
    ],
    *[
        case(f"einsum {s}", lambda t, x, s=s: t.einsum(s, x), normal(*a), ref=lambda x, s=s: np.einsum(s, x))
        for s, a in EINSUM_ONE
    ],
    case(
        "einsum of three",
        lambda t, x, y, z: t.einsum("ij,jk,kl->il", x, y, z),
        normal(2, 3),
        normal(3, 4),
        normal(4, 2),
        ref=lambda x, y, z: x @ y @ z,
    ),
    case("linear", lambda t, x, w, b: t.linear(x, w, b), normal(5, 3), normal(2, 3), normal(2), ref=linear),
    case("linear without bias", lambda t, x, w: t.linear(x, w), normal(5, 3), normal(2, 3), ref=linear),
    case("linear of a vector", lambda t, x, w, b: t.linear(x, w, b), normal(3), normal(2, 3), normal(2), ref=linear),
    case(
        "linear of [T, N, features]",
        lambda t, x, w, b: t.linear(x, w, b),
        normal(4, 5, 3),
        normal(2, 3),
        normal(2),
        ref=linear,
    ),
    case("linear of no rows", lambda t, x, w, b: t.linear(x, w, b), normal(0, 3), normal(2, 3), normal(2), ref=linear),
    case(
        "two layers",
        lambda t, x, w, b, v: t.linear(t.tanh(t.linear(x, w, b)), v),
        normal(5, 3),
        normal(4, 3),
        normal(4),
        normal(2, 4),
        ref=lambda x, w, b, v: np.tanh(linear(x, w, b)) @ v.T,
    ),
    case(
        "weight used twice",
        lambda t, x, w: t.linear(t.tanh(t.linear(x, w)), w),
        normal(5, 3),
        normal(3, 3),
        ref=lambda x, w: np.tanh(x @ w.T) @ w.T,
    ),
    case("norm", lambda t, x: t.norm(x), normal(3, 4), ref=np.linalg.norm),
    case("Tensor.norm", lambda t, x: x.norm(), normal(3, 4), ref=np.linalg.norm),
    case("norm dim", lambda t, x: x.norm(dim=1), normal(3, 4), ref=lambda x: np.linalg.norm(x, axis=1)),
    case(
        "norm dim keepdim",
        lambda t, x: t.norm(x, dim=-1, keepdim=True),
        normal(3, 4),
        ref=lambda x: np.linalg.norm(x, axis=-1, keepdims=True),
    ),
    case("norm 1", lambda t, x: x.norm(1), positive(3, 4), ref=lambda x: np.abs(x).sum()),
    case("norm 3", lambda t, x: x.norm(3, dim=0), positive(3, 4), ref=lambda x: (x**3).sum(0) ** (1 / 3)),
    case("norm inf", lambda t, x: x.norm(float("inf")), positive(3, 4), ref=lambda x: np.abs(x).max()),
    case("tril", lambda t, x: t.tril(x), normal(3, 4), ref=np.tril),
    case("tril 1", lambda t, x: t.tril(x, 1), normal(2, 3, 4), ref=lambda x: np.tril(x, 1)),
    case("triu", lambda t, x: t.triu(x, diagonal=-1), normal(3, 4), ref=lambda x: np.triu(x, -1)),
    case("Tensor.triu", lambda t, x: x.triu(), normal(3, 4), ref=np.triu),
    case("diagonal", lambda t, x: t.diagonal(x), normal(3, 4), ref=np.diagonal),
    case("diagonal offset", lambda t, x: x.diagonal(1), normal(3, 4), ref=lambda x: np.diagonal(x, 1)),
    case(
        "diagonal dims",
        lambda t, x: x.diagonal(dim1=-2, dim2=-1),
        normal(2, 3, 3),
        ref=lambda x: np.diagonal(x, axis1=-2, axis2=-1),
    ),
    case("diag of a vector", lambda t, x: t.diag(x), normal(3), ref=np.diag),
    case("diag of a matrix", lambda t, x: t.diag(x, 1), normal(3, 4), ref=lambda x: np.diag(x, 1)),
]
