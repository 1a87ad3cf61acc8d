"""Philox against its published vectors, its distributions, and its independence of splitting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.autograd.philox import key_of, normal, philox, random_bits, uniform
from dynarl.seeding import derive_seed

ONES = 0xFFFFFFFF
# Random123 kat_vectors, philox4x32 with 10 rounds.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    block = philox(np.array(counter, np.uint32).reshape(4, 1), key)
    assert block.dtype == np.uint32
    assert tuple(block[:, 0].tolist()) == expected


def test_a_batch_is_its_columns():
    counters = np.random.default_rng(0).integers(0, 2**32, (4, 50), dtype=np.uint32)
    whole = philox(counters, (7, 9))
    for i in range(50):
        np.testing.assert_array_equal(whole[:, i : i + 1], philox(counters[:, i : i + 1], (7, 9)))


@settings(deadline=None)
@given(
    size=st.integers(1, 7),
    first=st.integers(0, 50),
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    cut=st.integers(0, 5),
)
@pytest.mark.parametrize("draw", [random_bits, uniform, normal])
def test_independent_of_the_split(draw, size, first, lengths, cut):
    streams = np.array([3, 0, 11, 2**33 + 3, 5])
    whole = draw(1, "action", streams, first, sum(lengths), size)
    assert whole.shape == (sum(lengths), 5, size)
    step, parts = first, []
    for length in lengths:
        pieces = [draw(1, "action", part, step, length, size) for part in (streams[:cut], streams[cut:])]
        parts.append(np.concatenate(pieces, axis=1))
        step += length
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_seed_purpose_and_stream_matter():
    draws = [
        uniform(seed, purpose, [stream], 0, 100, 1).tobytes()
        for seed in (0, 1)
        for purpose in ("a", "b")
        for stream in (0, 1)
    ]
    assert len(set(draws)) == len(draws)


def test_uniform_moments_and_range():
    x = uniform(3, "u", np.arange(100), 0, 1000, 3)
    assert x.dtype == np.float32
    assert x.min() >= 0 and x.max() < 1
    assert abs(x.mean() - 0.5) < 0.003
    assert abs(x.var() - 1 / 12) < 0.001
    counts = np.histogram(x, bins=64, range=(0, 1))[0]
    chi2 = ((counts - x.size / 64) ** 2 / (x.size / 64)).sum()
    assert chi2 < 63 + 5 * np.sqrt(2 * 63)
    correlation = np.corrcoef(x[:, :, 0].T)
    assert np.abs(correlation - np.eye(100)).max() < 0.2


def test_open_uniform_never_touches_the_ends():
    x = uniform(3, "u", np.arange(100), 0, 1000, 3, open=True)
    assert x.min() > 0 and x.max() < 1
    # The extreme words, through the same arithmetic.
    ends = np.array([0, 2**32 - 1], np.uint32) >> np.uint32(9)
    values = (ends.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-23)
    assert values[0] > 0 and values[1] < 1


def test_normal_moments():
    z = normal(3, "n", np.arange(100), 0, 1000, 3)
    assert z.dtype == np.float32
    assert np.isfinite(z).all()
    assert abs(z.mean()) < 0.006
    assert abs(z.var() - 1) < 0.01
    assert abs((z.astype(np.float64) ** 4).mean() - 3) < 0.1
    assert abs((np.abs(z) > 2).mean() - 0.0455) < 0.002


def test_bad_arguments():
    with pytest.raises(ValueError, match="philox: the seed must be 0 or more, got -1"):
        key_of(-1, "x")
    with pytest.raises(ValueError, match="must be 0 or more, got -1, 1 and 1"):
        uniform(0, "x", [0], -1, 1, 1)


def test_derived_seeds_do_not_overlap_between_runs():
    runs = [{derive_seed(seed, "reset", i, k) for i in range(50) for k in range(40)} for seed in range(4)]
    assert all(len(run) == 2000 for run in runs)
    assert len(set().union(*runs)) == 8000


def test_derived_seeds_are_stable_and_unambiguous():
    assert derive_seed(0, "reset", 0, 0) == 1184159859
    assert derive_seed(1, "a", 2, 3) != derive_seed(1, "a", 23)
    assert derive_seed(12, "a") != derive_seed(1, "2a")
    assert derive_seed(1, "a", 2) != derive_seed(1, "a|2")
    assert 0 <= derive_seed(0, "x", bits=5) < 32
    assert derive_seed(np.int64(5), "x", np.int64(1)) == derive_seed(5, "x", 1)


def test_derive_seed_refusals():
    with pytest.raises(ValueError, match="the seed must be 0 or more, got -3"):
        derive_seed(-3, "x")
    with pytest.raises(ValueError, match="bits must lie between 1 and 64, got 65"):
        derive_seed(0, "x", bits=65)
    with pytest.raises(TypeError):
        derive_seed(1.5, "x")
