"""The one table of cases every engine test runs over."""

from tests.helpers.case import Case
from tests.helpers.cases import (
    arithmetic,
    compare,
    conv,
    indexing,
    inplace,
    linalg,
    reductions,
    segments,
    shapes,
    unary,
)

CASES: list[Case] = [
    *unary.CASES,
    *arithmetic.CASES,
    *compare.CASES,
    *linalg.CASES,
    *reductions.CASES,
    *shapes.CASES,
    *indexing.CASES,
    *segments.CASES,
    *inplace.CASES,
    *conv.CASES,
]

__all__ = ["CASES"]
