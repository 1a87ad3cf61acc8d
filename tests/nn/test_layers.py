"""Layers, losses and initial values: closed forms, errors, gradients."""

import math

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.autograd import gradcheck, gradgradcheck
from dynarl.nn import functional as F
from dynarl.nn import init


def double(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return dynarl.tensor(rng.normal(size=shape)).requires_grad_()


def test_layer_norm_gradients():
    inputs = (double(2, 3, 4), double(3, 4, seed=1), double(3, 4, seed=2))
    assert gradcheck(lambda x, w, b: F.layer_norm(x, (3, 4), w, b), inputs)
    assert gradgradcheck(lambda x, w, b: F.layer_norm(x, (3, 4), w, b), inputs)
    assert gradcheck(lambda x: F.layer_norm(x, (4,)), inputs[:1])
    assert gradcheck(lambda x, w: F.rms_norm(x, (4,), w), (inputs[0], double(4)))


def test_layer_norm_normalises():
    y = nn.LayerNorm(16)(dynarl.randn(5, 16) * 3 + 2).detach().numpy()
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(-1), 1, rtol=1e-4)
    with pytest.raises(ValueError, match=r"layer_norm: input must end in normalized_shape \(4,\), got shape \(2, 3\)"):
        nn.LayerNorm(4)(dynarl.zeros(2, 3))
    with pytest.raises(ValueError, match="rms_norm: input must end in"):
        nn.RMSNorm(4)(dynarl.zeros(2, 3))


def test_dropout():
    layer = nn.Dropout(0.25)
    x = dynarl.ones(20_000)
    y = layer(x).numpy()
    assert set(np.unique(y)) <= {0.0, np.float32(1 / 0.75)}
    assert abs(float((y == 0).mean()) - 0.25) < 0.02
    assert layer.eval()(x) is x
    assert nn.Dropout(1.0)(x).sum().item() == 0
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got 2"):
        nn.Dropout(2)
    with pytest.raises(ValueError, match="dropout: probability has to be between"):
        F.dropout(x, -1)


def test_embedding():
    layer = nn.Embedding(4, 3, padding_idx=-1)
    assert layer.padding_idx == 3 and layer.weight[3].abs().sum().item() == 0
    layer(dynarl.tensor([[0, 3], [0, 1]])).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 0], [2, 1, 0, 0])
    with pytest.raises(IndexError, match=r"embedding: indices must be in \[0, 4\), got values from 0 to 4"):
        layer(dynarl.tensor([0, 4]))
    with pytest.raises(IndexError, match="from -1 to -1"):
        layer(dynarl.tensor([-1]))
    with pytest.raises(TypeError, match="embedding: indices must be integers, got float32"):
        layer(dynarl.zeros(2))
    with pytest.raises(ValueError, match="padding_idx must be within num_embeddings 4, got 7"):
        nn.Embedding(4, 3, padding_idx=7)


def test_one_hot_and_normalize():
    assert F.one_hot(dynarl.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert F.one_hot(dynarl.tensor([0]), 2).dtype == dynarl.int64
    with pytest.raises(ValueError, match=r"one_hot: class values must be in \[0, 2\)"):
        F.one_hot(dynarl.tensor([2]), 2)
    with pytest.raises(TypeError, match="one_hot: indices must be integers"):
        F.one_hot(dynarl.zeros(2))
    np.testing.assert_allclose(F.normalize(dynarl.tensor([[3.0, 4.0]])).tolist(), [[0.6, 0.8]], rtol=1e-6)


def test_flatten_unflatten_identity():
    x = dynarl.zeros(2, 3, 4)
    assert nn.Flatten()(x).shape == (2, 12)
    assert nn.Flatten(0, 1)(x).shape == (6, 4)
    assert nn.Unflatten(-1, (2, -1))(x).shape == (2, 3, 2, 2)
    assert nn.Identity(3, any=1)(x) is x
    with pytest.raises(TypeError, match="Unflatten: dim must be an int"):
        nn.Unflatten("x", (2, 2))


def test_loss_values():
    a, b = dynarl.tensor([0.0, 3.0]), dynarl.tensor([1.0, 0.0])
    assert nn.MSELoss()(a, b).item() == 5.0
    assert nn.L1Loss(reduction="sum")(a, b).item() == 4.0
    assert nn.HuberLoss(reduction="none", delta=2.0)(a, b).tolist() == [0.5, 4.0]
    assert nn.SmoothL1Loss(reduction="none", beta=2.0)(a, b).tolist() == [0.25, 2.0]
    assert F.smooth_l1_loss(a, b, beta=0).item() == 2.0
    logits = dynarl.zeros(2, 4)
    assert math.isclose(nn.CrossEntropyLoss()(logits, dynarl.tensor([1, 3])).item(), math.log(4), rel_tol=1e-6)
    assert math.isclose(nn.BCEWithLogitsLoss()(dynarl.zeros(3), dynarl.ones(3)).item(), math.log(2), rel_tol=1e-6)
    assert nn.BCELoss(reduction="none")(dynarl.tensor([0.0, 1.0]), dynarl.tensor([1.0, 1.0])).tolist() == [100.0, 0.0]


def test_loss_errors():
    a = dynarl.zeros(2, 3)
    with pytest.raises(ValueError, match="mse_loss: average is not a valid value for reduction"):
        F.mse_loss(a, a, reduction="average")
    with pytest.warns(UserWarning, match=r"mse_loss: target size \(3,\) differs from input size \(2, 3\)"):
        F.mse_loss(a, a[0])
    with pytest.raises(ValueError, match="huber_loss: delta must be positive"):
        F.huber_loss(a, a, delta=0)
    with pytest.raises(ValueError, match="smooth_l1_loss: beta must not be negative"):
        F.smooth_l1_loss(a, a, beta=-1)
    with pytest.raises(IndexError, match="target 3 is out of bounds for 3 classes"):
        F.cross_entropy(a, dynarl.tensor([0, 3]))
    with pytest.raises(ValueError, match="target must have the input's shape without its class dimension"):
        F.cross_entropy(a, dynarl.tensor([0]))
    with pytest.raises(TypeError, match="target class indices must be integers"):
        F.nll_loss(a, dynarl.zeros(2))
    with pytest.raises(ValueError, match="label_smoothing must be between"):
        F.cross_entropy(a, dynarl.tensor([0, 1]), label_smoothing=2)
    with pytest.raises(ValueError, match="target probabilities must have the input's shape"):
        F.cross_entropy(a, dynarl.zeros(2))
    with pytest.raises(RuntimeError, match="all elements of input should be between 0 and 1"):
        F.binary_cross_entropy(a - 1, a)
    with pytest.raises(ValueError, match="Using a target size"):
        F.binary_cross_entropy(a, a[0])
    with pytest.raises(ValueError, match="must be the same as input size"):
        F.binary_cross_entropy_with_logits(a, a[0])
    with pytest.raises(ValueError, match="Hardtanh: max_val must be larger"):
        nn.Hardtanh(1, -1)


def test_init_values():
    dynarl.manual_seed(0)
    w = dynarl.empty(200, 100)
    for fill, std in (
        (lambda: init.kaiming_uniform_(w, a=math.sqrt(5)), 1 / math.sqrt(3 * 100)),
        (lambda: init.kaiming_normal_(w, nonlinearity="relu"), math.sqrt(2 / 100)),
        (lambda: init.kaiming_normal_(w, mode="fan_out"), math.sqrt(2 / 200)),
        (lambda: init.xavier_uniform_(w), math.sqrt(2 / 300)),
        (lambda: init.xavier_normal_(w, gain=2), 2 * math.sqrt(2 / 300)),
        (lambda: init.normal_(w, 0, 3), 3.0),
        (lambda: init.uniform_(w, -1, 1), 1 / math.sqrt(3)),
        (lambda: init.trunc_normal_(w), 0.8796),
    ):
        assert fill() is w
        assert abs(w.numpy().std() / std - 1) < 0.03 and abs(w.numpy().mean()) < 0.05 * std
    init.trunc_normal_(w, std=2.0, a=-1.0, b=1.0)
    assert w.abs().max().item() <= 1.0
    for shape in ((6, 4), (4, 6), (4, 2, 3)):
        q = init.orthogonal_(dynarl.empty(*shape), gain=2.0).numpy().reshape(shape[0], -1)
        gram = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
        np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-5)
    assert init.eye_(dynarl.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert init.constant_(dynarl.empty(2), 0.5).tolist() == [0.5, 0.5]
    weight = nn.Linear(2, 2).weight
    assert init.zeros_(weight) is weight and weight.requires_grad and weight.is_leaf
    assert init.ones_(weight).tolist() == [[1, 1], [1, 1]]


def test_init_follows_the_seed_and_a_generator():
    draws = []
    for _ in range(2):
        dynarl.manual_seed(3)
        draws.append(nn.Linear(3, 3).weight.tolist())
    assert draws[0] == draws[1]
    generators = [dynarl.Generator().manual_seed(1) for _ in range(2)]
    a, b = (init.orthogonal_(dynarl.empty(3, 3), generator=g).tolist() for g in generators)
    assert a == b


def test_linear_default_bounds():
    layer = nn.Linear(25, 400)
    bound = 1 / 5
    for p in (layer.weight, layer.bias):
        assert p.abs().max().item() <= bound and p.abs().max().item() > 0.95 * bound


def test_init_errors():
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.kaiming_uniform_(dynarl.empty(3))
    with pytest.raises(ValueError, match="Only tensors with 2 or more dimensions"):
        init.orthogonal_(dynarl.empty(3))
    with pytest.raises(ValueError, match="Only tensors with 2 dimensions"):
        init.eye_(dynarl.empty(3))
    with pytest.raises(ValueError, match="Mode sideways not supported"):
        init.kaiming_normal_(dynarl.empty(3, 3), mode="sideways")
    with pytest.raises(ValueError, match="Unsupported nonlinearity cubic"):
        init.calculate_gain("cubic")
    with pytest.raises(ValueError, match="negative_slope True not a valid number"):
        init.calculate_gain("leaky_relu", True)
    with pytest.raises(ValueError, match="a must be below b"):
        init.trunc_normal_(dynarl.empty(3), a=1, b=0)
    with pytest.raises(ValueError, match="rejection would not end"):
        init.trunc_normal_(dynarl.empty(3), a=7, b=8)


def test_all_is_what_is_offered():
    for name in nn.__all__:
        assert getattr(nn, name) is not None
    for name in F.__all__:
        assert callable(getattr(F, name))
    assert not hasattr(nn, "Conv3d")


def test_utils_is_the_optimisers_clipping():
    from dynarl.optim import clip

    assert nn.utils.clip_grad_norm_ is clip.clip_grad_norm_
    with pytest.raises(AttributeError, match=r"module 'dynarl\.nn' has no attribute 'Bilinear'"):
        _ = nn.Bilinear
