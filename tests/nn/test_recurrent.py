"""GRU and LSTM: against cells step by step, torch, finite differences, and what they refuse."""

import numpy as np
import pytest

import dynarl
from dynarl import nn, optim
from dynarl.autograd import gradcheck, gradgradcheck
from dynarl.autograd.ops.recurrent import gru_cell, lstm_cell

KINDS = ["GRU", "LSTM"]
LAYOUTS = [
    {},
    {"num_layers": 2, "bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def tensor(rng, *shape, grad=True):
    return dynarl.tensor(rng.normal(size=shape), requires_grad=grad)


@pytest.mark.parametrize("kind", KINDS)
def test_sequence_equals_cells_with_resets(kind):
    rng = np.random.default_rng(0)
    layer = getattr(nn, kind)(3, 5, dtype=dynarl.float64)
    cell = getattr(nn, kind + "Cell")(3, 5, dtype=dynarl.float64)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in layer.state_dict().items()})
    x, reset = tensor(rng, 7, 4, 3), rng.random((7, 4)) < 0.3
    first = tuple(tensor(rng, 1, 4, 5) for _ in range(layer.states))
    out, last = layer(x, first if kind == "LSTM" else first[0], reset=reset)
    loss = (out**2).sum() + sum((part**3).sum() for part in parts(last))
    leaves = [x, *first, *layer.parameters()]
    found = dynarl.autograd.grad(loss, leaves)

    state, outputs = tuple(part[0] for part in first), []
    for t in range(7):
        state = tuple(part * dynarl.tensor(~reset[t, :, None]).double() for part in state)
        state = parts(cell(x[t], state if kind == "LSTM" else state[0]))
        outputs.append(state[0])
    expected_loss = (dynarl.stack(outputs) ** 2).sum() + sum((part**3).sum() for part in state)
    np.testing.assert_allclose(loss.item(), expected_loss.item(), rtol=1e-12)
    for g, want in zip(found, dynarl.autograd.grad(expected_loss, [x, *first, *cell.parameters()])):
        np.testing.assert_allclose(g.numpy(), want.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reset", [None, np.array([[False, True], [True, False], [False, False]])])
def test_gradients_of_a_sequence(kind, reset):
    rng = np.random.default_rng(1)
    layer = getattr(nn, kind)(2, 2, dtype=dynarl.float64)
    weights = [tensor(rng, *p.shape) for p in layer.parameters()]
    first = tuple(tensor(rng, 2, 2) for _ in range(layer.states))
    inputs = (tensor(rng, 3, 2, 2), *first, *weights)

    def scan(x, *rest):
        return layer._scan(x, rest[: layer.states], rest[layer.states :], reset)[0]

    assert gradcheck(scan, inputs)
    assert gradgradcheck(scan, inputs)


@pytest.mark.parametrize(("op", "states", "gates"), [(gru_cell, 1, 3), (lstm_cell, 2, 4)])
def test_gradients_of_a_cell(op, states, gates):
    rng = np.random.default_rng(2)
    shapes = [(2, 2), *[(2, 3)] * states, (3 * gates, 2), (3 * gates, 3), (3 * gates,), (3 * gates,)]
    inputs = [tensor(rng, *shape) for shape in shapes]
    assert gradcheck(op, inputs)
    assert gradgradcheck(op, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_land_in_the_flat_buffer(kind):
    layer = getattr(nn, kind)(3, 4)
    optimizer = optim.Adam(layer.parameters())
    x = dynarl.randn(5, 2, 3)
    layer(x)[0].square().sum().backward()
    plain = [p.grad.numpy().copy() for p in layer.parameters()]
    optimizer.zero_grad()
    layer(x)[0].square().sum().backward()
    for p, g in zip(layer.parameters(), plain):
        assert p.grad.array is p._node.grad_view.array
        np.testing.assert_array_equal(p.grad.numpy(), g)
    cell = getattr(nn, kind + "Cell")(3, 4)
    optim.Adam(cell.parameters())
    state = None
    for t in range(3):
        state = cell(x[t], state)
    parts(state)[0].square().sum().backward()
    assert all(p.grad.array is p._node.grad_view.array for p in cell.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_one_sequence_and_single_step_need_no_batch_axis(kind):
    layer, cell = getattr(nn, kind)(3, 4), getattr(nn, kind + "Cell")(3, 4)
    x = dynarl.randn(6, 3)
    out, last = layer(x, reset=np.zeros(6, bool))
    batched, _ = layer(x.unsqueeze(1))
    np.testing.assert_array_equal(out.detach().numpy(), batched.squeeze(1).detach().numpy())
    assert all(part.shape == (1, 4) for part in parts(last))
    again, _ = layer(x, last)
    assert again.shape == (6, 4)
    assert parts(cell(x[0]))[0].shape == (4,)


def test_dropout_acts_between_layers_in_training_only():
    layer = nn.GRU(3, 4, 2, dropout=0.5)
    x = dynarl.randn(5, 2, 3)
    assert not np.array_equal(layer(x)[0].detach().numpy(), layer(x)[0].detach().numpy())
    layer.eval()
    assert np.array_equal(layer(x)[0].detach().numpy(), layer(x)[0].detach().numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", LAYOUTS)
def test_as_torch(kind, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    theirs = getattr(torch.nn, kind)(3, 5, **options).double()
    ours = getattr(nn, kind)(3, 5, **options, dtype=dynarl.float64)
    assert {k: tuple(v.shape) for k, v in theirs.state_dict().items()} == {
        k: tuple(v.shape) for k, v in ours.state_dict().items()
    }
    ours.load_state_dict({k: dynarl.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    x = rng.normal(size=(4, 2, 3))
    batch = 4 if options.get("batch_first") else 2
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    hx = [rng.normal(size=(count, batch, 5)) for _ in range(ours.states)]
    results = []
    for lib, layer in ((torch, theirs), (dynarl, ours)):
        leaves = [lib.tensor(a, requires_grad=True) for a in (x, *hx)]
        out, last = layer(leaves[0], tuple(leaves[1:]) if kind == "LSTM" else leaves[1])
        ((out**2).sum() + sum(part.sin().sum() for part in parts(last))).backward()
        gradients = [t.grad for t in (*leaves, *layer.parameters())]
        results.append([t.detach().numpy() for t in (out, *parts(last), *gradients)])
    for want, got in zip(*results):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_cell_as_torch(kind):
    torch = pytest.importorskip("torch")
    theirs, ours = getattr(torch.nn, kind + "Cell")(3, 5), getattr(nn, kind + "Cell")(3, 5)
    ours.load_state_dict({k: dynarl.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(4).normal(size=(2, 3)).astype(np.float32)
    for want, got in zip(parts(theirs(torch.tensor(x))), parts(ours(dynarl.tensor(x)))):
        np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.GRU(3, 4, 0), "num_layers must be at least 1, got 0"),
        (lambda: nn.LSTM(3, 4, 2, dropout=1.5), r"dropout must lie in \[0, 1\], got 1.5"),
        (lambda: nn.LSTM(3, 4, dropout=0.5), "dropout acts between layers, got dropout=0.5 with one layer"),
        (lambda: nn.GRU(3, 4)(dynarl.randn(2, 2, 5)), r"GRU: input must be \[T, N, 3\], got \(2, 2, 5\)"),
        (lambda: nn.GRU(3, 4)(dynarl.randn(2, 2, 3), dynarl.randn(1, 3, 4)), r"must be \[1, 2, 4\], got \[1, 3, 4\]"),
        (lambda: nn.GRU(3, 4)(dynarl.randn(0, 2, 3)), "gru_scan: the sequence must have at least one step"),
        (
            lambda: nn.LSTM(3, 4)(dynarl.randn(2, 2, 3), reset=np.zeros((3, 2), bool)),
            r"lstm_scan: reset must be bool \(2, 2\), here bool \(3, 2\)",
        ),
        (
            lambda: nn.LSTM(3, 4, bidirectional=True)(dynarl.randn(2, 2, 3), reset=np.zeros((2, 2), bool)),
            "reset is for one direction of time",
        ),
        (lambda: nn.GRUCell(3, 4)(dynarl.randn(2, 5)), r"gru_cell: for 5 inputs and a state of 4 the weights must be"),
    ],
)  # fmt: skip
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_dtypes_must_agree():
    with pytest.raises(TypeError, match="lstm_scan: input, state and weights must have one dtype"):
        nn.LSTM(3, 4)(dynarl.randn(2, 2, 3, dtype=dynarl.float64))
