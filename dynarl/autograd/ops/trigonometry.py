"""Trigonometric and hyperbolic functions and their inverses; tanh, an activation, is in elementwise.py."""

from __future__ import annotations

from typing import Any

from dynarl.autograd.device import xp
from dynarl.autograd.ops.elementwise import quiet
from dynarl.autograd.tape import primitive


@primitive(floats=True)
def sin(x: Any) -> Any:
    return xp(x).sin(x), (lambda g: g * xp(x).cos(x),)


@primitive(floats=True)
def cos(x: Any) -> Any:
    return xp(x).cos(x), (lambda g: -g * xp(x).sin(x),)


@primitive(floats=True)
def tan(x: Any) -> Any:
    y = xp(x).tan(x)
    return y, (lambda g: g * (1 + y * y),)


@primitive(floats=True)
@quiet
def asin(x: Any) -> Any:
    return xp(x).arcsin(x), (lambda g: g / xp(x).sqrt(1 - x * x),)


@primitive(floats=True)
@quiet
def acos(x: Any) -> Any:
    return xp(x).arccos(x), (lambda g: -g / xp(x).sqrt(1 - x * x),)


@primitive(floats=True)
def atan(x: Any) -> Any:
    return xp(x).arctan(x), (lambda g: g / (1 + x * x),)


@primitive(promotes=True)
def atan2(x: Any, y: Any) -> Any:
    norm = x * x + y * y
    safe = xp(norm).where(norm == 0, 1.0, norm)  # the gradient at the origin is zero, as in PyTorch
    return xp(norm).arctan2(x, y), (lambda g: g * y / safe, lambda g: -g * x / safe)


@primitive(floats=True)
def sinh(x: Any) -> Any:
    return xp(x).sinh(x), (lambda g: g * xp(x).cosh(x),)


@primitive(floats=True)
def cosh(x: Any) -> Any:
    return xp(x).cosh(x), (lambda g: g * xp(x).sinh(x),)


@primitive(floats=True)
@quiet
def atanh(x: Any) -> Any:
    return xp(x).arctanh(x), (lambda g: g / (1 - x * x),)


@primitive(floats=True)
def asinh(x: Any) -> Any:
    return xp(x).arcsinh(x), (lambda g: g / xp(x).sqrt(x * x + 1),)


@primitive(floats=True)
def acosh(x: Any) -> Any:
    return xp(x).arccosh(x), (lambda g: g / xp(x).sqrt(x * x - 1),)
