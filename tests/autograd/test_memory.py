"""Graphs: deep ones, freed ones, failed ones; anomaly detection."""

import gc
import weakref

import numpy as np
import pytest

import dynarl
from dynarl.autograd.ops.affine import linear


@pytest.fixture
def no_gc():
    """Everything must go by reference counting: cycles would hold memory until the collector runs."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def leaf(*values):
    return dynarl.tensor(values, requires_grad=True)


def model(w):
    """Something of everything: fused ops, reductions, indexing, in-place writes, several outputs."""
    h = linear(dynarl.ones(4, 3), w).tanh()
    y = h.clone()
    y[0] = h[1] * 2
    a, b = y.split(1, dim=1)
    values, _ = a.sort(dim=0)
    return (values * b).log_softmax(0).mean() + h.logsumexp(1).sum() + dynarl.stack([a, b]).std()


@pytest.mark.parametrize("how", ["backward", "grad", "create_graph", "dropped", "failed"])
def test_freed_without_the_collector(how, no_gc):
    w = dynarl.randn(2, 3, requires_grad=True)
    h = w * 1
    loss = model(h)
    alive = [weakref.ref(h), weakref.ref(h.grad_fn), weakref.ref(loss), weakref.ref(loss.grad_fn)]
    if how == "backward":
        loss.backward()
    elif how == "grad":
        dynarl.autograd.grad(loss, w)
    elif how == "create_graph":
        (g,) = dynarl.autograd.grad(loss, w, create_graph=True)
        alive += [weakref.ref(g), weakref.ref(g.grad_fn)]
        (g**2).sum().backward()
        del g
    elif how == "failed":
        h.register_hook(lambda g: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            loss.backward()
    del h, loss
    if how == "failed":
        gc.collect()  # the traceback held the frames
    assert [ref() for ref in alive] == [None] * len(alive)


def test_backward_frees_what_ops_saved(no_gc):
    w = leaf(1.0, 2.0)
    array = np.ones(2, np.float32)
    saved = dynarl.from_numpy(array)
    ref = weakref.ref(array)
    loss = (w * saved).sum()
    del saved, array
    assert ref() is not None
    loss.backward()
    assert ref() is None and loss.requires_grad


def test_rollout_loop_leaves_nothing(no_gc):
    """10 updates in, as many objects of the engine as after the first."""
    w = dynarl.randn(2, 3, requires_grad=True)

    def update():
        w.grad = None
        model(w).backward()

    update()
    before = sum(type(o) is dynarl.Tensor for o in gc.get_objects())
    for _ in range(10):
        update()
    assert sum(type(o) is dynarl.Tensor for o in gc.get_objects()) <= before


def test_deep_chain():
    """100 000 steps forward, backward and freed without recursion."""
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.tolist() == [1.0]
    del y


def test_deep_chain_dropped():
    """Freeing a long chain that nobody differentiated must not overflow the C stack either."""
    y = leaf(1.0)
    for _ in range(100_000):
        y = y * 1.0
    del y


def test_wide_fan_out():
    x = leaf(1.0)
    dynarl.stack([x * float(i) for i in range(2000)]).sum().backward()
    assert x.grad.tolist() == [float(sum(range(2000)))]


def test_diamonds_are_visited_once():
    """2^60 paths, 60 nodes."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = (y + y) * 0.5
    y.sum().backward()
    assert x.grad.tolist() == [1.0]


def test_failed_forward_leaves_no_trace():
    x = leaf(1.0, 2.0)
    with pytest.raises((RuntimeError, ValueError)):
        x * dynarl.ones(3)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_failed_backward_can_be_repeated_on_a_new_graph():
    x = leaf(1.0)
    y = x * 2
    handle = y.register_hook(lambda g: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            y.sum().backward(retain_graph=True)
    handle.remove()
    x.grad = None
    y.sum().backward()
    assert x.grad.tolist() == [2.0]


def test_failed_backward_leaves_no_half_sums():
    x = leaf(1.0)
    y, z = x * 2, x * 3
    handle = z.register_hook(lambda g: 1 / 0)
    loss = y.sum() + z.sum()
    with pytest.raises(ZeroDivisionError):
        loss.backward(retain_graph=True)
    handle.remove()
    x.grad = None
    loss.backward()
    assert x.grad.tolist() == [5.0]
    assert dynarl.is_grad_enabled()


def test_python_control_flow():
    """A while loop on values, recursion, an exception that is caught: the graph is what ran."""

    def collatz(x, depth=0):
        if x.item() < 1.5 or depth > 20:
            return x
        try:
            if int(x) % 2:
                raise ValueError
            return collatz(x / 2, depth + 1)
        except ValueError:
            return collatz(3 * x + 1, depth + 1)

    x = leaf(6.0)
    y = collatz(x[0])
    y.backward()
    assert y.item() == 1.0
    assert x.grad.tolist() == [3**2 / 2**6]


class TestAnomaly:
    def test_forward(self):
        x = leaf(-1.0)
        with dynarl.autograd.detect_anomaly(), np.errstate(invalid="ignore"):
            with pytest.raises(
                RuntimeError, match=r"log: made a NaN in forward at .*test_memory\.py:\d+ in test_forward"
            ):
                dynarl.log(x)
            assert dynarl.sqrt(leaf(4.0)).item() == 2.0

    def test_backward(self):
        x = leaf(0.0, 1.0)
        with dynarl.autograd.detect_anomaly():
            y = dynarl.where(x > 0, x.sqrt(), 0.0)  # 0 * inf in the branch not taken
            with pytest.raises(
                RuntimeError, match=r"sqrt: made a NaN in backward; .*test_memory\.py:\d+ in test_backward"
            ):
                y.sum().backward()

    def test_off_again(self):
        with dynarl.autograd.detect_anomaly():
            pass
        assert dynarl.isnan(dynarl.log(leaf(-1.0))).item()
        with pytest.raises(RuntimeError, match="mine"), dynarl.autograd.detect_anomaly():
            raise RuntimeError("mine")
        assert dynarl.isnan(dynarl.log(leaf(-1.0))).item()

    def test_set_detect_anomaly(self):
        """As in PyTorch: a switch, and a context that puts back what was before."""
        autograd = dynarl.autograd
        try:
            autograd.set_detect_anomaly(True)
            assert autograd.is_anomaly_enabled()
            with autograd.set_detect_anomaly(False):
                assert not autograd.is_anomaly_enabled()
                assert dynarl.isnan(dynarl.log(leaf(-1.0))).item()
            with pytest.raises(RuntimeError, match="log: made a NaN in forward"), np.errstate(invalid="ignore"):
                dynarl.log(leaf(-1.0))
            with dynarl.no_grad():
                assert dynarl.isnan(dynarl.log(leaf(-1.0))).item()  # not recorded: no gradient can come of it
            y = (leaf(0.0).sqrt() * 0.0).sum()
            with pytest.raises(RuntimeError, match="sqrt: made a NaN in backward"):
                y.backward()
        finally:
            autograd.set_detect_anomaly(False)
        assert not autograd.is_anomaly_enabled()
        assert dynarl.isnan(dynarl.log(leaf(-1.0))).item()


def test_no_numpy_warnings():
    """Like torch: log(0), 0/0 and overflow are values, not warnings (pytest makes warnings errors)."""
    x = dynarl.tensor([0.0, -1.0, 1e38])
    assert dynarl.log(x)[0].item() == -np.inf
    assert dynarl.isnan(x / 0.0)[0].item()
    assert dynarl.exp(x)[2].item() == np.inf
    assert dynarl.isnan(dynarl.sqrt(x))[1].item()
