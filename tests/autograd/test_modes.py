"""no_grad, enable_grad, set_grad_enabled: nesting, decorators, exceptions, generators, threads."""

import threading

import pytest

import dynarl


@pytest.fixture
def x():
    return dynarl.ones(2, requires_grad=True)


def test_no_grad(x):
    with dynarl.no_grad():
        y = x * 2
        assert not dynarl.is_grad_enabled()
    assert not y.requires_grad and y.is_leaf
    assert (x * 2).requires_grad


def test_nesting(x):
    with dynarl.no_grad():
        with dynarl.enable_grad():
            assert (x * 2).requires_grad
            with dynarl.no_grad():
                assert not (x * 2).requires_grad
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert dynarl.is_grad_enabled()


def test_one_context_entered_twice(x):
    context = dynarl.no_grad()
    with context:
        with context:
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_decorators(x):
    @dynarl.no_grad()
    def act(value):
        return value * 2

    @dynarl.no_grad
    def act_too(value):
        return value * 2

    @dynarl.enable_grad()
    def learn(value):
        return value * 2

    assert not act(x).requires_grad and not act_too(x).requires_grad
    assert act.__name__ == "act"
    with dynarl.no_grad():
        assert learn(x).requires_grad
    assert dynarl.is_grad_enabled()


def test_recursive_decorated_function(x):
    @dynarl.no_grad()
    def down(n):
        return x * n if n == 0 else down(n - 1)

    assert not down(3).requires_grad
    assert dynarl.is_grad_enabled()


def test_exceptions_restore(x):
    with pytest.raises(KeyError), dynarl.no_grad():
        raise KeyError
    assert dynarl.is_grad_enabled()

    @dynarl.no_grad()
    def fails():
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert dynarl.is_grad_enabled()


def test_set_grad_enabled(x):
    with dynarl.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    with dynarl.set_grad_enabled(True):
        assert (x * 2).requires_grad
    try:
        dynarl.set_grad_enabled(False)
        assert not dynarl.is_grad_enabled()
    finally:
        dynarl.set_grad_enabled(True)
    assert dynarl.is_grad_enabled()


def test_leaves_made_inside_still_require_grad():
    with dynarl.no_grad():
        w = dynarl.zeros(2, requires_grad=True)
    assert w.requires_grad
    (w * 2).sum().backward()
    assert w.grad.tolist() == [2.0, 2.0]


def test_in_place_update_of_a_leaf(x):
    """What optimisers do: allowed without recording, and the leaf stays a leaf."""
    with dynarl.no_grad():
        x -= 0.5
        x.mul_(2)
        x[0] = 7.0
    assert x.is_leaf and x.requires_grad
    assert x.tolist() == [7.0, 1.0]


def test_threads_have_their_own_mode(x):
    seen = []
    inside, done = threading.Event(), threading.Event()

    def other():
        inside.wait()
        seen.append((dynarl.is_grad_enabled(), (x * 2).requires_grad))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with dynarl.no_grad():
        inside.set()
        done.wait()
    thread.join()
    assert seen == [(True, True)]


def test_backward_in_threads():
    """Separate graphs in separate threads do not disturb each other."""
    results = {}

    def work(n):
        w = dynarl.full((4,), float(n), requires_grad=True)
        for _ in range(20):
            (w * w).sum().backward()
        results[n] = w.grad.tolist()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [40.0 * n] * 4 for n in range(4)}
