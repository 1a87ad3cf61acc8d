"""Spread of epsilon over environments."""

import numpy as np

from dynarl.agents.dqn.exploration import spread


def test_spread_is_that_of_ape_x():
    found = spread(0.4, 7.0, np.arange(8), 8)
    np.testing.assert_allclose(found, [0.4 ** (1 + 7 * i / 7) for i in range(8)])
    assert found[0] == 0.4 and np.isclose(found[-1], 0.4**8)


def test_a_part_of_the_environments_has_its_part():
    whole = spread(0.4, 7.0, np.arange(8), 8)
    np.testing.assert_array_equal(spread(0.4, 7.0, np.array([2, 5]), 8), whole[[2, 5]])


def test_spread_ends():
    np.testing.assert_array_equal(spread(0.3, 7.0, np.arange(1), 1), [0.3])
    np.testing.assert_array_equal(spread(1.0, 7.0, np.arange(3), 3), [1, 1, 1])  # before learning starts
    np.testing.assert_array_equal(spread(0.0, 7.0, np.arange(3), 3), [0, 0, 0])
    np.testing.assert_array_equal(spread(0.3, 0.0, np.arange(3), 3), [0.3, 0.3, 0.3])
