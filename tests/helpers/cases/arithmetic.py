"""Two operands: broadcasting, Python scalars, 0-dim tensors, mixed dtypes, and the named forms."""

import operator

import numpy as np

from tests.helpers.case import booleans, case, distinct, integers, nonzero, normal, positive

OPERATORS = [
    ("+", operator.add),
    ("-", operator.sub),
    ("*", operator.mul),
    ("/", operator.truediv),
    ("**", operator.pow),
]
SHAPES = [
    ((3, 4), (3, 4)),
    ((3, 1), (1, 4)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 3, 4)),
    ((), (3, 4)),
    ((3, 4), ()),
    ((), ()),
    ((1, 1), (2, 1, 3)),
    ((0, 3), (3,)),
]
FUNCTIONS = [  # torch name, NumPy function, domain
    ("add", np.add, normal),
    ("sub", np.subtract, normal),
    ("mul", np.multiply, normal),
    ("div", np.divide, positive),
    ("pow", np.power, positive),
    ("true_divide", np.divide, positive),
    ("atan2", np.arctan2, nonzero),
    ("logaddexp", np.logaddexp, normal),
]
A, B = normal(3, 4), normal(3, 4)
P = positive(3, 4)


def _named(name):
    return lambda t, x, y: getattr(t, name)(x, y)


def _method(name):
    return lambda t, x, y: getattr(x, name)(y)


def _scalar(f, number):
    return [
        case(f"tensor {{}} {number!r}", lambda t, x: f(x, number), P, ref=lambda x: f(x, number)),
        case(f"{number!r} {{}} tensor", lambda t, x: f(number, x), P, ref=lambda x: f(number, x)),
    ]


def _scalars():
    for sign, f in OPERATORS:
        for number in (2, 2.5):
            for c in _scalar(f, number):
                yield case(c.name.replace("{}", sign), c.run, *c.inputs, ref=c.ref)


def _integer_powers():
    for n in (-2, -1, 0, 1, 2, 3, 0.5):
        yield case(f"pow {n}", lambda t, x, n=n: t.pow(x, n), P, ref=lambda x, n=n: x ** float(n))
        yield case(f"pow of negative {n}" if n != 0.5 else "pow 0.5 method", lambda t, x, n=n: x.pow(n),
                   P if n == 0.5 else nonzero(3, 4), ref=lambda x, n=n: x ** float(n))  # fmt: skip


CASES = [
    *[
        case(f"x{sign}y {a} {b}", lambda t, x, y, f=f: f(x, y), positive(*a), positive(*b), ref=f)
        for sign, f in OPERATORS
        for a, b in SHAPES
    ],
    *_scalars(),
    *_integer_powers(),
    *[case(n, _named(n), make(2, 3), make(3), ref=ref) for n, ref, make in FUNCTIONS],
    *[case(f"Tensor.{n}", _method(n), make(2, 1), make(1, 3), ref=ref) for n, ref, make in FUNCTIONS],
    case("atan2 at the origin", lambda t, x, y: t.atan2(x, y), [0.0], [0.0], orders=0),
    case("add alpha", lambda t, x, y: t.add(x, y, alpha=2), A, B, ref=lambda x, y: x + 2 * y),
    case("sub alpha", lambda t, x, y: t.sub(x, y, alpha=0.5), A, B, ref=lambda x, y: x - 0.5 * y),
    case("Tensor.add alpha", lambda t, x, y: x.add(y, alpha=-1), A, B, ref=np.subtract),
    case("add number", lambda t, x: t.add(x, 3), A, ref=lambda x: x + 3),
    case("mul number", lambda t, x: t.mul(x, 3), A, ref=lambda x: x * 3),
    case("pow of number", lambda t, x: t.pow(2.0, x), A, ref=lambda x: 2.0**x),
    case("pow zero base", lambda t, x, y: x**y, [0.0, 0.0, 2.0], [2.0, 1.0, 3.0], orders=0),
    case("x*x", lambda t, x: x * x, A, ref=np.square),
    case("x+x", lambda t, x: x + x, A, ref=lambda x: 2 * x),
    case("x/x", lambda t, x: x / x, P, ref=lambda x: np.ones_like(x)),
    case(
        "one operand twice", lambda t, x, y: (x * y + x) * (x - y) + x, A, B, ref=lambda x, y: (x * y + x) * (x - y) + x
    ),
    case("lerp", lambda t, x, y: t.lerp(x, y, 0.25), A, B, ref=lambda x, y: x + 0.25 * (y - x)),
    case("lerp weight", lambda t, x, y, w: t.lerp(x, y, w), A, B, normal(4), ref=lambda x, y, w: x + w * (y - x)),
    case(
        "addcmul",
        lambda t, x, y, z: t.addcmul(x, y, z, value=0.5),
        A,
        B,
        normal(4),
        ref=lambda x, y, z: x + 0.5 * y * z,
    ),
    case("addcdiv", lambda t, x, y, z: t.addcdiv(x, y, z, value=2), A, B, P, ref=lambda x, y, z: x + 2 * y / z),
    # Whole-number division has no useful gradient in its divisor's kinks: values, dtypes, first operand
    case("floor divide", lambda t, x, y: x // y, nonzero(3, 4), [0.6], orders=None, ref=np.floor_divide),
    case("floor divide number", lambda t, x: x // 2, nonzero(3, 4), orders=None, ref=lambda x: x // 2),
    case("floor_divide", lambda t, x: t.floor_divide(x, 2), integers(3, 4, low=-5), ref=lambda x: x // 2),
    case("number floor divide", lambda t, x: 7 // x, integers(3, 4, low=1), ref=lambda x: 7 // x),
    case(
        "div floor",
        lambda t, x: t.div(x, 2.0, rounding_mode="floor"),
        nonzero(3, 4),
        orders=None,
        ref=lambda x: np.floor(x / 2),
    ),
    case(
        "div trunc",
        lambda t, x: t.div(x, 2.0, rounding_mode="trunc"),
        nonzero(3, 4),
        orders=None,
        ref=lambda x: np.trunc(x / 2),
    ),
    case("%", lambda t, x: x % 1.0, nonzero(3, 4), ref=lambda x: x % 1.0),
    case("remainder", lambda t, x, y: t.remainder(x, y), nonzero(3, 4), [5.3], ref=np.remainder),
    case("fmod", lambda t, x: t.fmod(x, 5.3), nonzero(3, 4), ref=lambda x: np.fmod(x, 5.3)),
    case("int % int", lambda t, x, y: x % y, integers(3, 4, low=-9, high=9), integers(4, low=1), ref=np.remainder),
    # Mixed dtypes: the float's dtype wins, gradients come back in each operand's own
    case("float * int", lambda t, x, n: x * n, A, integers(3, 4), ref=lambda x, n: x * n),
    case("int + float", lambda t, n, x: n + x, integers(4), A, ref=lambda n, x: n + x),
    case("float * bool", lambda t, x, b: x * b, A, booleans(3, 4), ref=lambda x, b: x * b),
    case("bool * number", lambda t, b: b * 0.99, booleans(3, 4), orders=None),
    case("int / int", lambda t, a, b: a / b, integers(3, 4, low=1), integers(3, 4, low=1), orders=None),
    case("int ** int", lambda t, a, b: a**b, integers(3, 4), integers(3, 4), ref=np.power),
    case("int + int", lambda t, a, b: a + b, integers(3, 4), integers(4), ref=np.add),
    case("1 - bool as float", lambda t, b: 1 - b.float(), booleans(3, 4), orders=None),
    case("float ** int tensor", lambda t, x, n: x**n, P, integers(3, 4), ref=lambda x, n: x**n),
    case("number - tensor", lambda t, x: 1.0 - x, A, ref=lambda x: 1 - x),
    case("maximum", lambda t, x, y: t.maximum(x, y), distinct(3, 4), [0.0] * 4, ref=np.maximum),
    case("minimum", lambda t, x, y: t.minimum(x, y), distinct(3, 4), [[0.0]] * 3, ref=np.minimum),
    case("Tensor.maximum", lambda t, x, y: x.maximum(y), distinct(3, 4), [[0.0]] * 3, ref=np.maximum),
    case("max of two", lambda t, x, y: t.max(x, y), distinct(3, 4), [0.0] * 4, ref=np.maximum),
    case("min of two", lambda t, x, y: t.min(x, y), distinct(3, 4), [0.0] * 4, ref=np.minimum),
    case("maximum at ties", lambda t, x, y: t.maximum(x, y), [1.0, 2.0, 3.0], [1.0, 5.0, 0.0], orders=0),
    case("minimum at ties", lambda t, x, y: t.minimum(x, y), [1.0, 2.0, 3.0], [1.0, 5.0, 0.0], orders=0),
    case("maximum of ints", lambda t, x, y: t.maximum(x, y), integers(4), integers(4), ref=np.maximum),
]
