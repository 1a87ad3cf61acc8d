"""Comparisons, logical and bitwise operations and tests of elements; none has a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.dispatch import overridable
from dynarl.autograd.operands import operand, promote
from dynarl.autograd.tensor import wrap


def _compare(name: str, symbol: str) -> Any:
    function = getattr(np, symbol)

    def op(x: Any, y: Any) -> Any:
        if y is None and name in ("eq", "ne"):
            return name == "ne"
        a, b = operand(x), operand(y)
        try:
            if a.__class__ not in (int, float, bool) and b.__class__ not in (int, float, bool) and a.dtype != b.dtype:
                a, b = promote([a, b])
            return wrap(function(a, b))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    op.__name__ = op.__qualname__ = name
    op.__doc__ = f"Compare elementwise ({name}); returns a bool tensor."
    return overridable(op)


eq, ne = _compare("eq", "equal"), _compare("ne", "not_equal")
lt, le = _compare("lt", "less"), _compare("le", "less_equal")
gt, ge = _compare("gt", "greater"), _compare("ge", "greater_equal")
logical_and, logical_or = _compare("logical_and", "logical_and"), _compare("logical_or", "logical_or")
logical_xor = _compare("logical_xor", "logical_xor")
bitwise_and, bitwise_or = _compare("bitwise_and", "bitwise_and"), _compare("bitwise_or", "bitwise_or")
bitwise_xor = _compare("bitwise_xor", "bitwise_xor")


def _test(name: str) -> Any:
    def op(x: Any) -> Any:
        a = operand(x)
        return wrap(getattr(xp(a), name)(a))

    op.__name__ = op.__qualname__ = name
    op.__doc__ = f"Test elementwise ({name}); returns a bool tensor."
    return overridable(op)


isnan, isinf, isfinite = _test("isnan"), _test("isinf"), _test("isfinite")
logical_not, bitwise_not = _test("logical_not"), _test("bitwise_not")


@overridable
def isclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Test |x - y| <= atol + rtol |y| elementwise."""
    a, b = operand(x), operand(y)
    return wrap(xp(a).isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan))


def allclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Return whether all elements are close (see isclose)."""
    return bool(isclose(x, y, rtol, atol, equal_nan).all())


def equal(x: Any, y: Any) -> bool:
    """Return whether two tensors have the same shape and elements."""
    return bool(x.shape == y.shape and (x == y).all())
