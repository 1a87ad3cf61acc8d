"""Samples per insertion stay in their buffer, whoever is faster."""

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.rollout.limiter import SampleLimiter

RATIOS = st.fractions(Fraction(1, 64), 16)


@settings(max_examples=80, deadline=None)
@given(
    ratio=RATIOS,
    min_size=st.integers(0, 30),
    ahead=st.integers(0, 5),
    slack=st.integers(0, 20),
    eager=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_speeds_stay_in_the_buffer(ratio, min_size, ahead, slack, eager, seed):
    """Two sides act in random turns, as fast as they like: the ratio holds and neither waits for ever."""
    behind = 1 + math.ceil(ratio) + slack
    limiter = SampleLimiter(ratio, min_size=min_size, ahead=ahead, behind=behind)
    rng = random.Random(seed)
    for _ in range(300):
        sample, insert = limiter.can_sample(), limiter.can_insert()
        assert sample or insert, "both wait"
        assert (limiter.allowed() > 0) == sample
        if sample and (not insert or rng.random() < eager):
            limiter.sampled(1)
        else:
            limiter.inserted(1)
        if limiter.inserts < min_size:
            assert limiter.samples == 0
        else:
            expected = ratio * (limiter.inserts - min_size)
            assert expected - behind <= limiter.samples <= expected + ahead


@settings(max_examples=40, deadline=None)
@given(ratio=RATIOS, chunks=st.lists(st.integers(1, 40), min_size=1, max_size=20), min_size=st.integers(0, 50))
def test_sampling_all_that_is_allowed_depends_on_insertions_alone(ratio, chunks, min_size):
    """However insertions are cut into pieces, as many samples are drawn by then."""
    limiter = SampleLimiter(ratio, min_size=min_size)
    for chunk in chunks:
        limiter.inserted(chunk)
        limiter.sampled(limiter.allowed())
        assert limiter.allowed() == 0
    assert limiter.samples == max(0, math.floor(ratio * (sum(chunks) - min_size)))


def test_a_third_never_drifts():
    limiter = SampleLimiter(Fraction(1, 3))
    for _ in range(30_000):
        limiter.inserted(1)
        limiter.sampled(limiter.allowed())
    assert limiter.samples == 10_000


def test_state_goes_on():
    limiter, other = SampleLimiter(0.5, min_size=3), SampleLimiter(0.5, min_size=3)
    limiter.inserted(9)
    limiter.sampled(1)
    other.load_state_dict(limiter.state_dict())
    assert other.allowed() == limiter.allowed() == 2


def test_what_is_refused():
    with pytest.raises(ValueError, match="samples_per_insert must be positive, got 0"):
        SampleLimiter(0)
    with pytest.raises(ValueError, match="at least 0, got -1 and 0"):
        SampleLimiter(1, min_size=-1)
    with pytest.raises(ValueError, match=r"at least 1 \+ samples_per_insert, 5, or insertion and sampling could wait"):
        SampleLimiter(4, ahead=1, behind=2)
