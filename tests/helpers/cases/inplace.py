"""Writing by index and the methods that end in _, with gradients to what was written and what was left."""

import numpy as np

from tests.helpers.case import booleans, case, distinct, integers, nonzero, normal, on_copy, positive

X = normal(4, 5)
# Statements on y (a copy of x); v: values, i: integers, m: a mask of rows, k: a mask of everything
WRITES = [
    ("y[1] = v", (5,)),
    ("y[1] = v", ()),
    ("y[1:3] = v", (2, 5)),
    ("y[:, 2] = v", (4,)),
    ("y[:, ::2] = v", (3,)),
    ("y[..., -1] = v", (4,)),
    ("y[1, 2] = v", ()),
    ("y[i] = v", (2, 5)),
    ("y[i] = v", (5,)),
    ("y[i, 1] = v", (2,)),
    ("y[m] = v", (5,)),
    ("y[k] = v", ()),
    ("y[k] = v", (10,)),
    ("y[:] = v", (4, 5)),
    ("y[...] = v", (5,)),
    ("y[None, 1] = v", (1, 5)),
    ("y[1:3] = v[None]", (5,)),
    ("y[0] = y[1] + v", (5,)),
    ("y[0] = v; y[1] = y[0].clone() ** 2", (5,)),
    ("y[0] = v; y[0] = 3 * v", (5,)),
    ("y[1:] += v", (5,)),
    ("y[:, 1] *= v", (4,)),
    ("y[1] = 2.5 * v.sum()", (5,)),
    ("z = y[1]; z.mul_(2); y[1] = v * z.clone()", (5,)),
    ("z = y[1:]; z.copy_(v.expand_as(z))", (5,)),
    ("z = y.reshape(-1)[3:8]; z.add_(v)", (5,)),
    ("z = y.T; z[0] = v", (4,)),
]
NUMBERS = ["y[1] = 0", "y[:, 1:3] = 2.5", "y[i] = -1", "y[m] = 0.0", "y[k] = 1", "y[...] = 3"]


def _program(source):
    code = compile(source, source, "exec")

    def run(y, **names):
        exec(code, {}, {"y": y, **names})

    return run


def _statement(source):
    run = _program(source)
    return on_copy(lambda t, y, v=None: run(y, v=v))


def _write(source, shape):
    run = _program(source)
    return case(
        f"{source} {shape}",
        on_copy(lambda t, y, v, i, m, k: run(y, v=v, i=i, m=m, k=k)),
        X, normal(*shape), [3, 1], [True, False, True, True], booleans(4, 5),
    )  # fmt: skip


def _number(source):
    run = _program(source)
    change = on_copy(lambda t, y, i, m, k: run(y, i=i, m=m, k=k))
    return case(source, change, X, [3, 1], [True, False, True, True], booleans(4, 5))


def _after(x, change):
    out = x.copy()
    change(out)
    return out


UNARY = [
    ("exp_", normal, np.exp), ("tanh_", normal, np.tanh), ("sigmoid_", normal, lambda x: 1 / (1 + np.exp(-x))),
    ("relu_", nonzero, lambda x: np.maximum(x, 0)), ("abs_", nonzero, np.abs), ("neg_", normal, np.negative),
    ("sqrt_", positive, np.sqrt), ("log_", positive, np.log), ("square_", normal, np.square),
    ("zero_", normal, np.zeros_like),
    ("reciprocal_", positive, lambda x: 1 / x), ("rsqrt_", positive, lambda x: x**-0.5),
    ("floor_", nonzero, np.floor), ("round_", nonzero, np.round),
]  # fmt: skip
BINARY = [
    ("add_", np.add), ("sub_", np.subtract), ("mul_", np.multiply), ("div_", np.divide), ("pow_", np.power),
]  # fmt: skip
AUGMENTED = [
    ("+=", np.add), ("-=", np.subtract), ("*=", np.multiply), ("/=", np.divide), ("**=", np.power),
]  # fmt: skip
P = positive(4, 5)

CASES = [
    *[_write(source, shape) for source, shape in WRITES],
    *[_number(source) for source in NUMBERS],
    *[
        case(n, on_copy(lambda t, y, n=n: getattr(y, n)()), make(4, 5), ref=ref, orders=1 if n == "zero_" else 2)
        for n, make, ref in UNARY
    ],
    *[case(n, on_copy(lambda t, y, v, n=n: getattr(y, n)(v)), P, positive(5), ref=ref) for n, ref in BINARY],
    *[
        case(f"{n} number", on_copy(lambda t, y, n=n: getattr(y, n)(3)), P, ref=lambda x, ref=ref: ref(x, 3.0))
        for n, ref in BINARY
    ],
    *[case(f"y {s} v", _statement(f"y {s} v"), P, positive(5), ref=ref) for s, ref in AUGMENTED],
    *[case(f"y {s} 2", _statement(f"y {s} 2"), P, ref=lambda x, ref=ref: ref(x, 2.0)) for s, ref in AUGMENTED],
    case("returns itself", lambda t, x: (y := x.clone()).mul_(2).add_(1) is y, X, orders=None, ref=lambda x: True),
    case("+= keeps the tensor", lambda t, x: _same(x.clone()), X, orders=None, ref=lambda x: True),
    case("add_ alpha", on_copy(lambda t, y, v: y.add_(v, alpha=-0.5)), X, normal(5), ref=lambda x, v: x - 0.5 * v),
    case("add_ itself", on_copy(lambda t, y: y.add_(y)), X, ref=lambda x: 2 * x),
    case("clamp_", on_copy(lambda t, y: y.clamp_(-0.5, 0.4)), nonzero(4, 5), ref=lambda x: np.clip(x, -0.5, 0.4)),
    case("clamp_ min", on_copy(lambda t, y: y.clamp_(min=0.0)), nonzero(4, 5), ref=lambda x: np.maximum(x, 0)),
    case("clip_", on_copy(lambda t, y: y.clip_(-0.5, 0.4)), nonzero(4, 5), ref=lambda x: np.clip(x, -0.5, 0.4)),
    case("fill_", on_copy(lambda t, y: y.fill_(2.5)), X, ref=lambda x: np.full_like(x, 2.5), orders=1),
    case("fill_ tensor", on_copy(lambda t, y, v: y.fill_(v)), X, normal(), ref=np.full_like),
    case("copy_", on_copy(lambda t, y, v: y.copy_(v)), X, normal(5), ref=lambda x, v: np.broadcast_to(v, x.shape)),
    case(
        "copy_ of ints",
        on_copy(lambda t, y, v: y.copy_(v)),
        X,
        integers(4, 5),
        orders=1,
        ref=lambda x, v: v.astype(x.dtype),
    ),
    case(
        "masked_fill_",
        on_copy(lambda t, y, m: y.masked_fill_(m, 9.0)),
        X,
        booleans(4, 5),
        ref=lambda x, m: np.where(m, 9.0, x),
    ),
    case("lerp_", on_copy(lambda t, y, v: y.lerp_(v, 0.1)), X, X, ref=lambda x, v: x + 0.1 * (v - x)),
    case(
        "addcmul_",
        on_copy(lambda t, y, a, b: y.addcmul_(a, b, value=0.5)),
        X,
        X,
        normal(5),
        ref=lambda x, a, b: x + 0.5 * a * b,
    ),
    case(
        "addcdiv_", on_copy(lambda t, y, a, b: y.addcdiv_(a, b, value=-2)), X, X, P, ref=lambda x, a, b: x - 2 * a / b
    ),
    case("scatter_", on_copy(lambda t, y, i: y.scatter_(1, i, 2.0)), X, [[0, 2], [1, 3], [4, 0], [2, 3]]),
    case("scatter_add_", on_copy(lambda t, y, i, s: y.scatter_add_(0, i, s)), X, integers(3, 5, high=4), normal(3, 5)),
    case("index_add_", on_copy(lambda t, y, i, s: y.index_add_(0, i, s)), X, [1, 1, 3], normal(3, 5)),
    case("int add_", on_copy(lambda t, y, v: y.add_(v)), integers(4, 5), integers(5), ref=np.add),
    case(
        "int y[i] += 1",
        _statement("y[1:3] += 1"),
        integers(4, 5),
        ref=lambda x: _after(x, lambda y: np.add(y[1:3], 1, out=y[1:3])),
    ),
    case("logical ~ in place of a mask", on_copy(lambda t, y: y.logical_not_()), booleans(4, 5), ref=np.logical_not),
    case("fill by slices", lambda t, x: _backwards(t, x), normal(5, 3), ref=lambda x: np.cumsum(x[::-1], 0)[::-1]),
    case("values then argmax", on_copy(lambda t, y: y[y.argmax(0)[0]].mul_(2)), distinct(4, 5), orders=None),
]


def _same(y):
    before = y
    y += 1
    return y is before


def _backwards(t, x):
    """Returns filled from the end, as GAE loops do."""
    out = t.zeros_like(x)
    out[4] = x[4]
    for n in (3, 2, 1, 0):
        out[n] = x[n] + out[n + 1]
    return out
