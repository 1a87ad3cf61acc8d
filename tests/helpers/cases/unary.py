"""Elementwise functions of one tensor, as functions and as methods, and their choices at kinks."""

import math

import numpy as np

from tests.helpers.case import case, distinct, inside, nonzero, normal, positive

erf = np.vectorize(math.erf, otypes=[float])
X = normal(3, 4)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


# name, domain, the same in NumPy
BOTH = [  # a function and a method
    ("neg", X, np.negative),
    ("abs", nonzero(3, 4), np.abs),
    ("exp", X, np.exp),
    ("expm1", X, np.expm1),
    ("log", positive(3, 4), np.log),
    ("log2", positive(3, 4), np.log2),
    ("log10", positive(3, 4), np.log10),
    ("log1p", positive(3, 4), np.log1p),
    ("sqrt", positive(3, 4), np.sqrt),
    ("rsqrt", positive(3, 4), lambda x: x**-0.5),
    ("square", X, np.square),
    ("reciprocal", nonzero(3, 4), lambda x: 1 / x),
    ("sign", nonzero(3, 4), np.sign),
    ("sin", X, np.sin),
    ("cos", X, np.cos),
    ("tan", inside(3, 4), np.tan),
    ("asin", inside(3, 4), np.arcsin),
    ("acos", inside(3, 4), np.arccos),
    ("atan", X, np.arctan),
    ("sinh", X, np.sinh),
    ("cosh", X, np.cosh),
    ("tanh", X, np.tanh),
    ("atanh", inside(3, 4), np.arctanh),
    ("sigmoid", X, sigmoid),
    ("relu", nonzero(3, 4), lambda x: np.maximum(x, 0)),
    ("erf", X, erf),
    ("floor", nonzero(3, 4), np.floor),
    ("ceil", nonzero(3, 4), np.ceil),
    ("round", nonzero(3, 4), np.round),
    ("trunc", nonzero(3, 4), np.trunc),
]
FUNCTIONS = [  # in torch.nn.functional only
    ("softplus", X, softplus),
    ("logsigmoid", X, lambda x: -softplus(-x)),
]

LARGE = [-1000.0, -88.0, -20.0, -1.0, 1.0, 20.0, 88.0, 1000.0]
TINY = [1e-30, 1e-12, 1e-7, -1e-7]
STABLE = [  # ends of the range: no overflow, no cancellation, no warning
    ("sigmoid", lambda t, x: t.sigmoid(x), LARGE),
    ("tanh", lambda t, x: t.tanh(x), LARGE),
    ("softplus", lambda t, x: t.softplus(x), LARGE),
    ("softplus beta", lambda t, x: t.softplus(x, beta=2.0, threshold=10.0), LARGE),
    ("logsigmoid", lambda t, x: t.logsigmoid(x), LARGE),
    ("expm1", lambda t, x: t.expm1(x), TINY),
    ("log1p", lambda t, x: t.log1p(x), TINY),
    ("erf", lambda t, x: t.erf(x), [-10.0, -3.0, -1e-8, 0.0, 1e-8, 0.5, 3.0, 10.0]),
]

ZEROS = [-1.0, 0.0, 2.0]
KINKS = [
    ("abs", lambda t, x: t.abs(x), ZEROS),
    ("sign", lambda t, x: t.sign(x), ZEROS),
    ("relu", lambda t, x: t.relu(x), ZEROS),
    ("round halves to even", lambda t, x: t.round(x), [-1.5, -0.5, 0.5, 1.5, 2.5]),
    ("sqrt", lambda t, x: t.sqrt(x), [0.0, 4.0]),
    ("square", lambda t, x: x**2, ZEROS),
    ("power zero", lambda t, x: x**0, ZEROS),
    ("power one", lambda t, x: x**1, ZEROS),
    ("log", lambda t, x: t.log(x), [0.0, 1.0]),
    ("norm", lambda t, x: t.norm(x), [0.0, 0.0]),
]

CASES = [
    *[case(n, lambda t, x, n=n: getattr(t, n)(x), make, ref=ref) for n, make, ref in BOTH + FUNCTIONS],
    *[case(f"Tensor.{n}", lambda t, x, n=n: getattr(x, n)(), make, ref=ref) for n, make, ref in BOTH],
    *[case(f"{n} 0-dim", lambda t, x, n=n: getattr(t, n)(x), positive(), ref=r) for n, _, r in BOTH[:6]],
    *[case(f"{n} of empty", lambda t, x, n=n: getattr(t, n)(x), normal(0, 3), ref=r) for n, _, r in BOTH[:4]],
    *[case(f"{name} at the ends", run, xs, orders=0) for name, run, xs in STABLE],
    *[case(f"{name} at kinks", run, xs, orders=0) for name, run, xs in KINKS],
    case("-x", lambda t, x: -x, X, ref=np.negative),
    case("+x", lambda t, x: +x, X, ref=np.positive),
    case("abs(x)", lambda t, x: abs(x), nonzero(3, 4), ref=np.abs),
    case("tanh twice", lambda t, x: t.tanh(t.tanh(x)), X, ref=lambda x: np.tanh(np.tanh(x))),
    case("softplus beta", lambda t, x: t.softplus(x, beta=3.0), X, ref=lambda x: softplus(3 * x) / 3),
    case("exp of sum of squares", lambda t, x: t.exp(-(x * x).sum()), X, ref=lambda x: np.exp(-(x * x).sum())),
    case("clamp", lambda t, x: t.clamp(x, -0.4, 0.5), distinct(3, 4), ref=lambda x: np.clip(x, -0.4, 0.5)),
    case("clamp min", lambda t, x: t.clamp(x, min=0.0), nonzero(3, 4), ref=lambda x: np.maximum(x, 0)),
    case("clamp max", lambda t, x: t.clamp(x, max=0.0), nonzero(3, 4), ref=lambda x: np.minimum(x, 0)),
    case("Tensor.clamp", lambda t, x: x.clamp(-0.5, 0.5), nonzero(3, 4), ref=lambda x: np.clip(x, -0.5, 0.5)),
    case("clip", lambda t, x: t.clip(x, -0.5, 0.5), nonzero(3, 4), ref=lambda x: np.clip(x, -0.5, 0.5)),
    case("clamp_min", lambda t, x: x.clamp_min(0.5), nonzero(3, 4), ref=lambda x: np.maximum(x, 0.5)),
    case("clamp_max", lambda t, x: x.clamp_max(0.5), nonzero(3, 4), ref=lambda x: np.minimum(x, 0.5)),
    case("clamp at kinks", lambda t, x: t.clamp(x, -1.0, 1.0), [-2.0, -1.0, 0.0, 1.0, 2.0], orders=0),
    case(
        "clamp between tensors",
        lambda t, x, lo, hi: t.clamp(x, lo, hi),
        nonzero(3, 4),
        [[-0.5] * 4],
        [[0.4], [0.5], [0.6]],
        ref=np.clip,
    ),
    case("clamp min tensor", lambda t, x, lo: x.clamp(min=lo), nonzero(3, 4), [0.0] * 4, ref=np.maximum),
]
