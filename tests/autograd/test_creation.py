"""Creation functions and random numbers: values, shapes, dtypes, seeds."""

import numpy as np
import pytest

import dynarl

# Source evaluated in both libraries (t is the library)
EXACT = [
    "t.zeros(2, 3)", "t.zeros((2, 3))", "t.zeros([])", "t.zeros(2, dtype=t.int64)", "t.ones(2)", "t.ones(())",
    "t.full((2, 3), 1.5)", "t.full((2,), 3)", "t.full((2,), True)", "t.full((), 2.0)", "t.empty(2, 3).shape",
    "t.full((2,), 3, dtype=t.float32)", "t.arange(5)", "t.arange(1, 5)", "t.arange(0, 1, 0.25)", "t.arange(5.0)",
    "t.arange(5, 0, -2)", "t.arange(3, dtype=t.float32)", "t.linspace(0, 1, 5)", "t.linspace(-1, 1, steps=3)",
    "t.eye(3)", "t.eye(2, 3)", "t.eye(2, dtype=t.bool)", "t.zeros_like(x)", "t.ones_like(n)", "t.full_like(x, 2)",
    "t.zeros_like(x, dtype=t.int64)", "t.empty_like(x).shape", "x.new_zeros(2)", "x.new_ones((2, 2))",
    "x.new_tensor([1, 2])", "x.new_full((2,), 7.0)", "n.new_zeros(3)", "x.new_empty(2).shape",
    "t.tensor([[1, 2], [3, 4]])", "t.tensor([1, 2.0])", "t.tensor([], dtype=t.int64)", "t.tensor(3)",
    "t.tensor(True)",
    "t.tensor([1, 2], dtype=t.float64)", "t.tensor((1, (2,))[0])", "t.as_tensor([1.0, 2.0])", "t.as_tensor(2)",
    "t.tensor([[True, False]])", "t.tensor(range(3))", "t.tensor([t.tensor(1.0), t.tensor(2.0)])",
    "t.stack([t.tensor(1), t.tensor(2)])", "t.tril(t.ones(3, 3)).bool()", "t.arange(6).reshape(2, 3)[:, 1]",
    "t.rand(2, 3).shape", "t.randn((2, 3)).shape", "t.rand(2).dtype == t.float32",
    "t.randint(5, (2,)).dtype == t.int64",
    "t.randint(2, 5, (3,)).shape", "t.randperm(4).dtype == t.int64", "t.rand_like(x).shape",
    "t.randn_like(x).dtype == x.dtype",
    "t.bernoulli(t.tensor([0.0, 1.0]))", "t.multinomial(t.tensor([0.0, 1.0]), 1)",
    "t.normal(0.0, 1.0, (2, 3)).shape", "t.normal(t.zeros(3), t.ones(3)).shape", "t.finfo(t.float32).eps",
    "t.finfo(t.float32).min", "t.iinfo(t.int64).max", "t.is_tensor(x), t.is_tensor(1.0)", "t.numel(x)",
]  # fmt: skip


@pytest.mark.parametrize("source", EXACT)
def test_as_torch(source):
    torch = pytest.importorskip("torch")
    got, expected = (
        eval(source, {"t": t, "x": t.tensor([[1.0, 2.0]]), "n": t.tensor([1, 2])}) for t in (dynarl, torch)
    )
    if isinstance(expected, torch.Tensor):
        assert (str(got.dtype), tuple(got.shape)) == (str(expected.dtype).removeprefix("torch."), tuple(expected.shape))
        got, expected = got.tolist(), expected.tolist()
    assert got == expected


@pytest.mark.parametrize("source", EXACT)
def test_runs(source):
    eval(source, {"t": dynarl, "x": dynarl.tensor([[1.0, 2.0]]), "n": dynarl.tensor([1, 2])})


DRAWS = {
    "rand": lambda g: dynarl.rand(100_000, generator=g),
    "randn": lambda g: dynarl.randn(100_000, generator=g),
    "randint": lambda g: dynarl.randint(3, 7, (100_000,), generator=g),
    "randperm": lambda g: dynarl.randperm(1000, generator=g),
    "bernoulli": lambda g: dynarl.bernoulli(dynarl.full((100_000,), 0.3), generator=g),
    "multinomial": lambda g: dynarl.multinomial(
        dynarl.tensor([1.0, 2.0, 0.0, 1.0]), 100_000, replacement=True, generator=g
    ),
    "normal": lambda g: dynarl.normal(dynarl.full((100_000,), 2.0), 3.0, generator=g),
}
EXPECTED = {  # mean, standard deviation, lowest, highest
    "rand": (0.5, 12**-0.5, 0, 1),
    "randn": (0.0, 1.0, -6, 6),
    "randint": (4.5, 1.25**0.5, 3, 6),
    "randperm": (499.5, 288.8, 0, 999),
    "bernoulli": (0.3, 0.21**0.5, 0, 1),
    "multinomial": (1.25, 1.0897, 0, 3),
    "normal": (2.0, 3.0, -16, 20),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_statistics(draw):
    x = DRAWS[draw](dynarl.Generator().manual_seed(1)).double()
    mean, std, low, high = EXPECTED[draw]
    assert x.mean().item() == pytest.approx(mean, abs=5 * std / 300)
    assert x.std().item() == pytest.approx(std, rel=0.02)
    assert low <= x.min().item() and x.max().item() <= high


@pytest.mark.parametrize("draw", DRAWS)
def test_same_seed_same_bytes(draw):
    def twice(generator):
        return DRAWS[draw](generator).numpy().tobytes(), DRAWS[draw](generator).numpy().tobytes()

    first = twice(dynarl.Generator().manual_seed(7))
    assert first == twice(dynarl.Generator().manual_seed(7))
    assert first[0] != first[1]
    assert first != twice(dynarl.Generator().manual_seed(8))

    dynarl.manual_seed(7)
    globally = twice(None)
    dynarl.manual_seed(7)
    assert globally == twice(None)


def test_the_global_stream_is_not_numpys():
    np.random.seed(0)
    before = np.random.get_state()[1].tobytes()
    dynarl.manual_seed(3)
    dynarl.randn(10)
    assert np.random.get_state()[1].tobytes() == before


def test_generator_state_can_be_kept():
    generator = dynarl.Generator().manual_seed(5)
    dynarl.rand(3, generator=generator)
    state = generator.get_state()
    first = dynarl.rand(3, generator=generator).tolist()
    generator.set_state(state)
    assert dynarl.rand(3, generator=generator).tolist() == first


def test_in_place_draws():
    x = dynarl.zeros(10_000)
    assert x.normal_(2.0, 0.5) is x
    assert x.mean().item() == pytest.approx(2.0, abs=0.03) and x.std().item() == pytest.approx(0.5, rel=0.05)
    assert x.uniform_(1, 3).min().item() >= 1 and x.max().item() < 3
    assert set(x.bernoulli_(0.5).tolist()) == {0.0, 1.0}


def test_multinomial_without_replacement():
    p = dynarl.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 1.0, 0.0, 0.0]])
    drawn = dynarl.multinomial(p, 2)
    assert drawn.shape == (2, 2) and drawn.dtype == dynarl.int64
    assert all(len(set(row)) == 2 for row in drawn.tolist())
    assert set(drawn[1].tolist()) == {0, 1}


def test_refusals():
    with pytest.raises((RuntimeError, ValueError), match=r"multinomial: .*(negative|non-negative|nan|sum)"):
        dynarl.multinomial(dynarl.tensor([-1.0, 2.0]), 1)
    with pytest.raises((RuntimeError, ValueError), match=r"multinomial: .*replacement"):
        dynarl.multinomial(dynarl.tensor([1.0, 2.0]), 3)
    with pytest.raises((RuntimeError, ValueError), match=r"bernoulli: .*\[0, 1\]|bernoulli: .*between 0 and 1"):
        dynarl.bernoulli(dynarl.tensor([1.5]))
    with pytest.raises((RuntimeError, ValueError), match=r"randint: .*5.*5"):
        dynarl.randint(5, 5, (2,))
    with pytest.raises((RuntimeError, ValueError), match=r"normal.*-1"):
        dynarl.normal(0.0, -1.0, (2,))
    with pytest.raises((TypeError, ValueError), match=r"tensor: .*(same length|ragged|inhomogeneous|lengths)"):
        dynarl.tensor([[1, 2], [3]])
    with pytest.raises(TypeError, match=r"tensor: .*str"):
        dynarl.tensor("abc")
    with pytest.raises(TypeError, match=r"from_numpy: .*list"):
        dynarl.from_numpy([1, 2])


def test_requires_grad():
    for x in (dynarl.zeros(2, requires_grad=True), dynarl.tensor([1.0], requires_grad=True),
              dynarl.randn(2, requires_grad=True), dynarl.ones_like(dynarl.zeros(2), requires_grad=True)):  # fmt: skip
        assert x.requires_grad and x.is_leaf
