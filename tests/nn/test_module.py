"""Module: registration, walking, state, hooks, printing."""

import copy
from collections import OrderedDict

import numpy as np
import pytest

import dynarl
from dynarl import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.head = nn.Linear(4, 2, bias=False)
        self.log_std = nn.Parameter(dynarl.zeros(2))
        self.register_buffer("count", dynarl.tensor(0))
        self.register_buffer("cache", dynarl.zeros(1), persistent=False)

    def forward(self, x):
        return self.head(self.body(x))


def test_names_come_in_torch_order():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["log_std", "body.0.weight", "body.0.bias", "head.weight"]
    assert list(net.state_dict()) == ["log_std", "count", "body.0.weight", "body.0.bias", "head.weight"]
    assert [n for n, _ in net.named_buffers()] == ["count", "cache"]
    assert [n for n, _ in net.named_modules()] == ["", "body", "body.0", "body.1", "head"]
    assert [n for n, _ in net.named_children()] == ["body", "head"]
    assert len(list(net.parameters())) == 4 and len(list(net.modules())) == 5


def test_shared_parameters_and_modules_appear_once():
    net = Net()
    net.tied = net.head
    net.again = net.log_std
    assert len(list(net.parameters())) == 4
    assert "tied.weight" in net.state_dict()
    assert len(list(net.named_parameters(remove_duplicate=False))) == 6


def test_state_dict_shares_memory_and_loads_arrays():
    net, other = Net(), Net()
    state = net.state_dict()
    state["log_std"].fill_(3.0)
    assert net.log_std.tolist() == [3.0, 3.0]
    result = other.load_state_dict({k: v.numpy() for k, v in state.items()})
    assert str(result) == "<All keys matched successfully>"
    for a, b in zip(net.parameters(), other.parameters()):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
        assert a is not b


def test_refused_load_names_everything_and_changes_nothing():
    net = Net()
    before = net.state_dict()["body.0.weight"].clone()
    bad = {"body.0.weight": np.ones((4, 3)), "head.weight": np.ones((5, 4)), "extra": np.ones(1)}
    with pytest.raises(
        RuntimeError, match=r'(?s)for Net:.*Missing key\(s\) in state_dict: "log_std", "count"'
    ) as error:
        net.load_state_dict(bad)
    assert 'Unexpected key(s) in state_dict: "extra"' in str(error.value)
    assert "size mismatch for head.weight: copying a param with shape (5, 4)" in str(error.value)
    np.testing.assert_array_equal(net.body[0].weight.detach().numpy(), before.numpy())
    with pytest.raises(RuntimeError, match="size mismatch"):
        net.load_state_dict(bad, strict=False)
    del bad["head.weight"]
    result = net.load_state_dict(bad, strict=False)
    assert result.unexpected_keys == ["extra"] and "log_std" in result.missing_keys
    assert net.body[0].weight.detach().numpy().min() == 1.0
    with pytest.raises(RuntimeError, match=r"\"log_std\", expected a Tensor or an array from checkpoint but received"):
        net.load_state_dict({"log_std": 3}, strict=False)
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        net.load_state_dict([1])


def test_registration_errors():
    net = Net()
    with pytest.raises(TypeError, match="cannot assign 'Tensor' as parameter 'log_std'"):
        net.log_std = dynarl.zeros(2)
    with pytest.raises(TypeError, match="cannot assign 'int' as child module 'head'"):
        net.head = 3
    with pytest.raises(KeyError, match="attribute 'head' already exists"):
        net.register_parameter("head", None)
    with pytest.raises(KeyError, match=r'parameter name can.*contain "\."'):
        net.register_parameter("a.b", None)
    with pytest.raises(KeyError, match="be empty string"):
        net.add_module("", nn.Tanh())
    with pytest.raises(TypeError, match="module name should be a string"):
        net.add_module(3, nn.Tanh())
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        net.add_module("x", 3)
    with pytest.raises(TypeError, match="cannot assign 'ndarray' object to buffer 'b'"):
        net.register_buffer("b", np.zeros(2))
    with pytest.raises(TypeError, match="cannot assign 'Tensor' object to parameter 'p'"):
        net.register_parameter("p", dynarl.zeros(2))
    with pytest.raises(ValueError, match="training mode is expected to be boolean"):
        net.train("yes")
    with pytest.raises(AttributeError, match="Net has no attribute `nose`"):
        net.get_submodule("nose.tip")
    with pytest.raises(AttributeError, match=r"`log_std` is not an nn\.Module"):
        net.get_submodule("log_std")
    with pytest.raises(AttributeError, match="attribute `weight` does not exist"):
        net.get_parameter("body.weight")
    with pytest.raises(AttributeError, match="no attribute 'nose'"):
        _ = net.nose
    assert net.get_submodule("body.0") is net.body[0]
    assert net.get_parameter("body.0.bias") is net.body[0].bias


def test_forgotten_init_is_explained():
    class Forgetful(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"before Forgetful's Module.__init__\(\) call"):
        Forgetful()

    class Later(nn.Module):
        def __init__(self):
            self.register_buffer("x", None)

    with pytest.raises(AttributeError, match=r"cannot assign buffer before Module.__init__\(\) call"):
        Later()


def test_reassigning_and_deleting():
    net = Net()
    net.head = nn.Linear(4, 3)
    assert net(dynarl.zeros(1, 3)).shape == (1, 3)
    net.log_std = None
    assert "log_std" not in net.state_dict()
    net.log_std = nn.Parameter(dynarl.ones(2))
    assert "log_std" in net.state_dict()
    del net.log_std
    assert "log_std" not in net.state_dict() and not hasattr(net, "log_std")


def test_train_eval_apply_requires_grad_zero_grad():
    net = Net()
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Tanh", "Sequential", "Linear", "Net"]
    net(dynarl.ones(2, 3)).sum().backward()
    weight = net.head.weight
    assert weight.grad is not None
    net.zero_grad(set_to_none=False)
    assert weight.grad.abs().sum().item() == 0.0
    net.zero_grad()
    assert weight.grad is None
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    assert not net(dynarl.ones(2, 3)).requires_grad


def test_to_casts_floating_tensors_in_place():
    net = Net()
    weight = net.head.weight
    assert net.double() is net
    assert net.head.weight is weight and weight.dtype == dynarl.float64 and net.count.dtype == dynarl.int64
    net.to(dynarl.float32)
    assert weight.dtype == dynarl.float32
    net.to(dynarl.zeros(1, dtype=dynarl.float64))
    assert weight.dtype == dynarl.float64
    net.float()
    array = weight.array
    net.to("cpu").cpu()
    assert weight.array is array
    with pytest.raises(TypeError, match="only accepts floating point dtypes, but got desired dtype=int64"):
        net.to(dynarl.int64)


def test_flat_parameters_stay_at_home_on_load_and_to():
    net = Net()
    dynarl.autograd.flatten(net.parameters())
    flat = net.log_std._leaf.flat
    net.load_state_dict({k: np.full(v.shape, 2.0) for k, v in net.state_dict().items()})
    net.to("cpu")
    assert all(p._leaf.flat is flat for p in net.parameters())
    np.testing.assert_array_equal(flat.data, 2.0)


def test_deepcopy_is_independent():
    net = Net()
    x = dynarl.ones(2, 3)
    net(x)
    twin = copy.deepcopy(net)
    np.testing.assert_array_equal(net(x).detach().numpy(), twin(x).detach().numpy())
    assert twin.head.weight is not net.head.weight and dict(twin.named_parameters())["head.weight"] is twin.head.weight
    twin.load_state_dict({k: v * 0 for k, v in twin.state_dict().items()})
    assert net.head.weight.abs().sum().item() > 0
    assert twin(x).abs().sum().item() == 0


def test_hooks():
    layer = nn.Linear(2, 2)
    x = dynarl.ones(1, 2)
    plain = layer(x)
    calls = []
    first = layer.register_forward_hook(lambda m, args, out: calls.append("after"))
    second = layer.register_forward_pre_hook(lambda m, args: calls.append("before"))
    layer(x)
    assert calls == ["before", "after"]
    first.remove()
    first.remove()
    with layer.register_forward_hook(lambda m, args, out: out * 2):
        np.testing.assert_allclose(layer(x).tolist(), (plain * 2).tolist())
    second.remove()
    with layer.register_forward_pre_hook(lambda m, args: args[0] * 0):
        np.testing.assert_allclose(layer(x).tolist(), [layer.bias.tolist()])
    with layer.register_forward_pre_hook(lambda m, args, kw: ((args[0] * 0,), kw), with_kwargs=True):
        np.testing.assert_allclose(layer(x).tolist(), [layer.bias.tolist()])
    with (
        layer.register_forward_pre_hook(lambda m, args, kw: 3, with_kwargs=True),
        pytest.raises(RuntimeError, match="must return None or a tuple of"),
    ):
        layer(x)
    order = []
    layer.register_forward_hook(lambda *a: order.append(1))
    layer.register_forward_hook(lambda *a: order.append(0), prepend=True, with_kwargs=True, always_call=True)
    layer(x)
    with pytest.raises(ValueError, match="linear"):
        layer(dynarl.ones(1, 3))
    assert order == [0, 1, 0]


def test_missing_forward():
    with pytest.raises(NotImplementedError, match='Module \\[Bare\\] is missing the required "forward" function'):
        type("Bare", (nn.Module,), {})()(1)


def test_module_containers():
    modules = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])
    modules.append(nn.Tanh()).extend([nn.ReLU()])
    modules.insert(0, nn.Identity())
    assert [type(m).__name__ for m in modules] == ["Identity", "Linear", "Linear", "Linear", "Tanh", "ReLU"]
    assert type(modules.pop(0)) is nn.Identity and len(modules) == 5
    assert list(modules.state_dict()) == [f"{i}.{n}" for i in range(3) for n in ("weight", "bias")]
    assert type(modules[-1]) is nn.ReLU and len(modules[1:3]) == 2
    modules[0] = nn.Tanh()
    del modules[1:]
    assert len(modules) == 1 and len(modules + nn.ModuleList([nn.Tanh()])) == 2
    with pytest.raises(IndexError, match="index 4 is out of range, it has 1 modules"):
        modules[4]
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        modules.insert(0, 3)
    with pytest.raises(TypeError, match="expected an iterable of modules"):
        modules.extend(3)

    named = nn.ModuleDict({"a": nn.Tanh(), "b": nn.ReLU()})
    named["c"] = nn.Linear(1, 1)
    assert list(named) == ["a", "b", "c"] and "a" in named and len(named) == 3
    assert type(named.pop("a")) is nn.Tanh and list(named.keys()) == ["b", "c"]
    assert [type(m).__name__ for m in named.values()] == ["ReLU", "Linear"]
    assert [k for k, _ in named.items()] == ["b", "c"]
    with pytest.raises(KeyError, match="zz"):
        del named["zz"]
    with pytest.raises(KeyError, match="attribute 'keys' already exists"):
        named["keys"] = nn.Tanh()
    named.clear()
    assert len(named) == 0

    values = nn.ParameterList([dynarl.zeros(2)])
    values.append(nn.Parameter(dynarl.ones(1)))
    assert [n for n, _ in values.named_parameters()] == ["0", "1"] and values[-1].tolist() == [1.0]
    values[0] = dynarl.ones(2)
    assert values[0].tolist() == [1.0, 1.0] and len(values[:1]) == 1
    with pytest.raises(IndexError, match="out of range, it has 2 parameters"):
        values[2]
    with pytest.raises(TypeError, match="expected a Parameter or a Tensor, got int"):
        values.append(3)


def test_sequential_from_ordered_dict_and_indexing():
    net = nn.Sequential(OrderedDict(fc=nn.Linear(2, 3), act=nn.Tanh(), out=nn.Linear(3, 1)))
    assert list(net.state_dict()) == ["fc.weight", "fc.bias", "out.weight", "out.bias"]
    assert net[0] is net.fc and net[-1] is net.out and list(net[:2].state_dict()) == ["fc.weight", "fc.bias"]
    assert net(dynarl.zeros(5, 2)).shape == (5, 1)


def test_registries_cannot_be_written_to():
    with pytest.raises(TypeError, match="does not support item assignment"):
        Net()._modules["x"] = nn.Tanh()


def test_import_paths_of_torch():
    from dynarl.nn.parameter import Parameter
    from dynarl.nn.utils import clip_grad_norm_

    assert Parameter is nn.Parameter and clip_grad_norm_ is dynarl.optim.clip_grad_norm_
