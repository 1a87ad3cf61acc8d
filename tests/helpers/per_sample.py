"""A per-sample program on every sample alone, on plain Tensors: what batched calls are compared with."""

from __future__ import annotations

import numpy as np

import dynarl
from dynarl.batching import batched
from dynarl.batching.values.pytree import flatten

MODES = ("eager", "lockstep", "loop", "auto")
TOGETHER = tuple(mode for mode in MODES if mode != "loop")
"""Modes that run samples together; "loop" is plain Python, where a sample's tensor is an ordinary one."""


def compare(program, *arrays, modes=MODES, gradients=True, rtol=1e-6, atol=1e-6):
    """Compare values (bit by bit up to rounding), dtypes and input gradients of a program, batched and alone."""
    alone, wanted = plain(program, arrays, gradients)
    for mode in modes:
        inputs = [tensor_of(a, gradients) for a in arrays]
        got, _ = flatten(batched(program, mode=mode)(*inputs))
        assert len(got) == len(alone), mode
        for mine, theirs in zip(got, alone):
            assert mine.dtype == theirs.dtype, (mode, mine.dtype, theirs.dtype)
            np.testing.assert_allclose(mine.detach().array, theirs, rtol=rtol, atol=atol, err_msg=mode)
            np.testing.assert_array_equal(np.signbit(mine.detach().array), np.signbit(theirs), err_msg=mode)
        loss = loss_of(got, 1)
        if gradients and loss.requires_grad:
            loss.backward()
            for x, g in zip(inputs, wanted):
                if x.requires_grad:
                    mine = np.zeros(x.shape) if x.grad is None else x.grad.array
                    np.testing.assert_allclose(mine, g, rtol=rtol, atol=atol, err_msg=f"gradient, {mode}")


def plain(program, arrays, gradients=True):
    """Return the results of a program on each sample alone, stacked, and the gradients of `loss_of` them."""
    results, grads = [], [[] for _ in arrays]
    for rows in zip(*arrays):
        inputs = [tensor_of(row, gradients) for row in rows]
        leaves = [as_tensor(leaf) for leaf in flatten(program(*inputs))[0]]
        results.append([leaf.detach().array.copy() for leaf in leaves])
        if gradients:
            loss = loss_of(leaves)
            if loss.requires_grad:
                loss.backward()
        for found, x, row in zip(grads, inputs, rows):
            found.append(np.zeros_like(row) if x.grad is None else x.grad.array)
    return [np.stack(column) for column in zip(*results)], [np.stack(g) for g in grads]


def tensor_of(array, gradients):
    x = dynarl.tensor(np.array(array))
    return x.requires_grad_() if gradients and x.is_floating_point() else x


def as_tensor(leaf):
    return leaf if isinstance(leaf, dynarl.Tensor) else dynarl.tensor(leaf)


def loss_of(leaves, batch=0):
    """Return a number in which every element has another weight within its sample."""
    total = dynarl.zeros(())
    for leaf in map(as_tensor, leaves):
        if leaf.requires_grad:
            weights = np.cos(np.arange(leaf.shape[-1] if leaf.ndim > batch else 1)).astype(np.float32)
            total = total + (leaf * dynarl.tensor(weights)).sum()
    return total
