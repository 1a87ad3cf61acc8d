"""A bounded number of random programs; `python -m tests.helpers.fuzz --programs 2000` runs more."""

import pytest

from tests.helpers.fuzz import check


@pytest.mark.parametrize("seed", range(60))
def test_modes_equal_samples_alone(seed):
    check(seed)
