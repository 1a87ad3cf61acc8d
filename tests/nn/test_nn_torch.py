"""nn against torch: same weights, same outputs, same gradients, same printing."""

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

rng = np.random.default_rng(0)


def array(*shape):
    return rng.normal(size=shape).astype(np.float32)


def close(ours, theirs, rtol=2e-5, atol=2e-6):
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=rtol, atol=atol)


def compare_modules(ours, theirs, *inputs):
    theirs.load_state_dict({k: torch.tensor(np.array(v.numpy())) for k, v in ours.state_dict().items()})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours_in = [dynarl.tensor(x) for x in inputs]
    theirs_in = [torch.tensor(x) for x in inputs]
    for x, y in zip(ours_in, theirs_in):
        if x.is_floating_point():
            x.requires_grad_()
            y.requires_grad_()
    a, b = ours(*ours_in), theirs(*theirs_in)
    assert a.dtype == np.dtype(str(b.dtype).removeprefix("torch."))
    close(a, b)
    weight = array(*a.shape) if a.ndim else np.float32(1.0)
    (a * dynarl.tensor(weight)).sum().backward()
    (b * torch.tensor(weight)).sum().backward()
    for x, y in zip(ours_in, theirs_in):
        if y.grad is not None:
            close(x.grad, y.grad)
    for p, q in zip(ours.parameters(), theirs.parameters()):
        close(p.grad, q.grad, rtol=1e-4, atol=1e-5)


LAYERS = [
    ("Conv2d", (3, 4, 3), {}, (2, 3, 5, 6)),
    ("Conv2d", (3, 4, (2, 3)), {"stride": 2, "padding": (1, 0), "bias": False}, (2, 3, 5, 6)),
    ("Conv2d", (3, 4, 3), {"padding": "same", "dilation": 2}, (3, 5, 6)),
    ("MaxPool2d", (2,), {}, (2, 3, 5, 6)),
    ("MaxPool2d", (3, 2), {"padding": 1}, (2, 3, 5, 6)),
    ("AvgPool2d", (2,), {}, (2, 3, 5, 6)),
    ("Linear", (3, 4), {}, (5, 3)),
    ("Linear", (3, 4), {"bias": False}, (2, 5, 3)),
    ("Linear", (3, 4), {}, (3,)),
    ("Identity", (), {}, (5, 3)),
    ("Tanh", (), {}, (5, 3)),
    ("ReLU", (), {}, (5, 3)),
    ("LeakyReLU", (0.2,), {}, (5, 3)),
    ("ELU", (0.7,), {}, (5, 3)),
    ("SELU", (), {}, (5, 3)),
    ("GELU", (), {}, (5, 3)),
    ("GELU", (), {"approximate": "tanh"}, (5, 3)),
    ("SiLU", (), {}, (5, 3)),
    ("Sigmoid", (), {}, (5, 3)),
    ("Softplus", (), {}, (5, 3)),
    ("Softplus", (2.0, 10.0), {}, (5, 3)),
    ("Softmax", (-1,), {}, (5, 3)),
    ("LogSoftmax", (), {"dim": 0}, (5, 3)),
    ("LogSigmoid", (), {}, (5, 3)),
    ("Hardtanh", (-0.5, 0.8), {}, (5, 3)),
    ("Softsign", (), {}, (5, 3)),
    ("Mish", (), {}, (5, 3)),
    ("LayerNorm", (3,), {}, (5, 3)),
    ("LayerNorm", ((2, 3),), {"eps": 1e-3, "bias": False}, (5, 2, 3)),
    ("LayerNorm", (3,), {"elementwise_affine": False}, (5, 3)),
    ("RMSNorm", (3,), {}, (5, 3)),
    ("RMSNorm", ((2, 3),), {"eps": 1e-2}, (5, 2, 3)),
    ("Flatten", (), {}, (5, 2, 3)),
    ("Unflatten", (1, (2, 3)), {}, (5, 6)),
    ("ReLU", (), {"inplace": False}, (5, 3)),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), LAYERS)
def test_layer(name, args, kwargs, shape):
    ours, theirs = getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    for p in ours.parameters():
        p.data.copy_(dynarl.tensor(array(*p.shape)))
    assert repr(ours) == repr(theirs)
    compare_modules(ours, theirs, array(*shape))


def test_embedding():
    compare_modules(nn.Embedding(5, 3), torch.nn.Embedding(5, 3), np.array([[0, 4], [4, 1]]))
    padded = nn.Embedding(5, 3, padding_idx=1), torch.nn.Embedding(5, 3, padding_idx=1)
    assert repr(padded[0]) == repr(padded[1])
    compare_modules(*padded, np.array([[0, 4], [4, 1]]))


def test_network_and_state_dict_round_trip():
    def make(n):
        class Net(n.Module):
            def __init__(self):
                super().__init__()
                self.body = n.Sequential(n.Linear(4, 8), n.Tanh(), n.Linear(8, 8), n.ReLU(), n.LayerNorm(8))
                self.heads = n.ModuleDict({"pi": n.Linear(8, 2), "v": n.Sequential(n.Linear(8, 1), n.Sigmoid())})
                self.many = n.ModuleList([n.Linear(8, 3) for _ in range(2)])

            def forward(self, x):
                h = self.body(x)
                return self.heads["pi"](h).sum(-1) + self.heads["v"](h).squeeze(-1) + self.many[1](h).mean(-1)

        return Net()

    ours, theirs = make(nn), make(torch.nn)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    theirs_parameters = dict(theirs.named_parameters())
    ours.load_state_dict(theirs_parameters)  # values that still require grad
    assert [n for n, _ in ours.named_parameters()] == list(theirs_parameters)
    x = array(6, 4)
    close(ours(dynarl.tensor(x)), theirs(torch.tensor(x)))
    theirs.many[0].weight.grad = None
    a, b = ours(dynarl.tensor(x)).sum(), theirs(torch.tensor(x)).sum()
    a.backward()
    b.backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        assert (p.grad is None) == (q.grad is None), name
        if q.grad is not None:
            close(p.grad, q.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "args", [("ReLU", True), ("ELU", 1.0, True), ("Hardtanh", 0.0, 1.0, True), ("LeakyReLU", 0.1, True)]
)
def test_inplace_activations_print_alike(args):
    name, *rest = args
    assert repr(getattr(nn, name)(*rest)) == repr(getattr(torch.nn, name)(*rest))


def test_containers_print_alike():
    def make(n, zeros):
        return [
            n.ModuleList([n.Linear(1, 2), n.Linear(1, 2), n.Sequential(n.Tanh(), n.ReLU()), n.Tanh()]),
            n.ModuleDict({"a": n.Tanh(), "b": n.Sequential()}),
            n.ModuleList(),
            n.Sequential(n.Dropout(0.1), n.Embedding(2, 3), n.MSELoss(), n.CrossEntropyLoss()),
        ]

    for ours, theirs in zip(make(nn, dynarl.zeros), make(torch.nn, torch.zeros)):
        assert repr(ours) == repr(theirs)


CLASSES = np.array([0, 2, 1, 2, 0])
PROBS = np.abs(array(5, 3)) / 10
PROBS /= PROBS.sum(-1, keepdims=True)
BITS = (array(5, 3) > 0).astype(np.float32)
WEIGHT = np.array([0.2, 1.0, 3.0], dtype=np.float32)
LOG_PROBS = np.log(PROBS[::-1].copy())
LOSSES = [
    ("mse_loss", array(5, 3), array(5, 3), {}),
    ("l1_loss", array(5, 3), array(5, 3), {}),
    ("smooth_l1_loss", array(5, 3), array(5, 3), {}),
    ("smooth_l1_loss", array(5, 3), array(5, 3), {"beta": 0.4}),
    ("huber_loss", array(5, 3), array(5, 3), {"delta": 0.4}),
    ("cross_entropy", array(5, 3), CLASSES, {}),
    ("cross_entropy", array(3), np.array(1), {}),
    (
        "cross_entropy",
        array(2, 3, 4),
        np.array([[0, 1, 2, 0], [2, 2, 1, 0]]),
        {"label_smoothing": 0.2, "weight": WEIGHT},
    ),
    ("cross_entropy", array(5, 3), CLASSES, {"weight": WEIGHT, "ignore_index": 2, "label_smoothing": 0.1}),
    ("cross_entropy", array(5, 3), CLASSES, {"ignore_index": 2}),
    ("cross_entropy", array(5, 3), PROBS, {"label_smoothing": 0.1, "weight": WEIGHT}),
    ("cross_entropy", array(5, 3), PROBS, {}),
    ("nll_loss", LOG_PROBS, CLASSES, {"weight": WEIGHT}),
    ("binary_cross_entropy", PROBS, BITS, {}),
    ("binary_cross_entropy_with_logits", array(5, 3), PROBS, {"pos_weight": WEIGHT, "weight": WEIGHT}),
    ("binary_cross_entropy_with_logits", array(5, 3), PROBS, {}),
    ("kl_div", LOG_PROBS, PROBS, {}),
    ("kl_div", LOG_PROBS, PROBS * BITS, {}),
    ("kl_div", LOG_PROBS, LOG_PROBS[::-1].copy(), {"log_target": True}),
]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "batchmean"])
@pytest.mark.parametrize(("name", "x", "target", "kwargs"), LOSSES)
def test_loss(name, x, target, kwargs, reduction):
    if reduction == "batchmean" and name != "kl_div":
        pytest.skip("kl_div only")
    a, b = dynarl.tensor(x).requires_grad_(), torch.tensor(x, requires_grad=True)
    ours_kw = {k: dynarl.tensor(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
    theirs_kw = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
    ours = getattr(F, name)(a, dynarl.tensor(target), reduction=reduction, **ours_kw)
    theirs = getattr(TF, name)(b, torch.tensor(target), reduction=reduction, **theirs_kw)
    assert tuple(ours.shape) == tuple(theirs.shape)
    close(ours, theirs)
    ours.sum().backward()
    theirs.sum().backward()
    close(a.grad, b.grad, atol=5e-6)


MODULE_OF = {
    "mse_loss": "MSELoss",
    "l1_loss": "L1Loss",
    "smooth_l1_loss": "SmoothL1Loss",
    "huber_loss": "HuberLoss",
    "cross_entropy": "CrossEntropyLoss",
    "nll_loss": "NLLLoss",
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "kl_div": "KLDivLoss",
}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize(("name", "x", "target", "kwargs"), LOSSES)
def test_loss_module(name, x, target, kwargs):
    ours_kw = {k: dynarl.tensor(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
    theirs_kw = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
    ours, theirs = getattr(nn, MODULE_OF[name])(**ours_kw), getattr(torch.nn, MODULE_OF[name])(**theirs_kw)
    close(ours(dynarl.tensor(x), dynarl.tensor(target)), theirs(torch.tensor(x), torch.tensor(target)))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_init_statistics():
    torch.manual_seed(0)
    dynarl.manual_seed(0)
    for name, kwargs in (
        ("kaiming_uniform_", {"a": 5**0.5}),
        ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}),
        ("xavier_uniform_", {"gain": 2.0}),
        ("xavier_normal_", {}),
        ("orthogonal_", {"gain": 1.5}),
        ("trunc_normal_", {"std": 0.5, "a": -0.6, "b": 1.0}),
        ("uniform_", {"a": -1, "b": 3}),
        ("normal_", {"mean": 1.0, "std": 2.0}),
    ):
        ours = getattr(nn.init, name)(dynarl.empty(150, 90), **kwargs).numpy()
        theirs = getattr(torch.nn.init, name)(torch.empty(150, 90), **kwargs).numpy()
        assert abs(ours.mean() - theirs.mean()) < 0.05 * theirs.std(), name
        assert abs(ours.std() / theirs.std() - 1) < 0.03, name
        quantiles = np.linspace(0.01, 0.99, 9)
        np.testing.assert_allclose(
            np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.08 * theirs.std(), err_msg=name
        )
    for name, param in (
        ("linear", None),
        ("tanh", None),
        ("relu", None),
        ("leaky_relu", 0.3),
        ("selu", None),
        ("conv2d", None),
    ):
        assert nn.init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)


def test_functions():
    x = array(4, 6)
    for name, args in (("normalize", ()), ("normalize", (3.0, 0)), ("softmin", (1,)), ("softmax", (0,)), ("tanh", ())):
        a, b = dynarl.tensor(x).requires_grad_(), torch.tensor(x, requires_grad=True)
        ours, theirs = getattr(F, name)(a, *args), getattr(TF, name)(b, *args)
        close(ours, theirs)
        (ours * ours).sum().backward()
        (theirs * theirs).sum().backward()
        close(a.grad, b.grad, atol=1e-5)
    index = np.array([[0, 3], [1, 1]])
    assert F.one_hot(dynarl.tensor(index)).tolist() == TF.one_hot(torch.tensor(index)).tolist()


def test_errors_say_what_torch_says():
    def failure(n, make, state):
        with pytest.raises(RuntimeError) as error:
            make(n).load_state_dict(state)
        return str(error.value).split("\n\t")[:3]

    def make(n):
        return n.Sequential(n.Linear(3, 4), n.Linear(4, 2))

    ours = failure(nn, make, {"0.weight": np.zeros((4, 3)), "x": np.zeros(1)})
    theirs = failure(torch.nn, make, {"0.weight": torch.zeros(4, 3), "x": torch.zeros(1)})
    assert ours == theirs
