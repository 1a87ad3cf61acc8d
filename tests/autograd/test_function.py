"""Custom operations with torch.autograd.Function's interface."""

import pytest

import dynarl
from dynarl.autograd import Function, gradcheck, gradgradcheck
from dynarl.autograd.function import once_differentiable


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x**2


class Scale(Function):
    """A static argument, two operands, and what backward needs is asked for."""

    @staticmethod
    def forward(ctx, x, y, scale):
        ctx.save_for_backward(x, y)
        ctx.scale = scale
        return scale * x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        assert len(ctx.needs_input_grad) == 3 and not ctx.needs_input_grad[2]
        return (
            g * ctx.scale * y if ctx.needs_input_grad[0] else None,
            g * ctx.scale * x if ctx.needs_input_grad[1] else None,
            None,
        )


class SinCos(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return dynarl.sin(x), dynarl.cos(x)

    @staticmethod
    def backward(ctx, gs, gc):
        (x,) = ctx.saved_tensors
        return gs * dynarl.cos(x) - gc * dynarl.sin(x)


class StraightThrough(Function):
    """Forward rounds, backward passes: the gradient is wrong on purpose."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


class SortWithPlaces(Function):
    @staticmethod
    def forward(ctx, x):
        values, places = x.sort()
        ctx.mark_non_differentiable(places)
        ctx.save_for_backward(places)
        return values, places

    @staticmethod
    def backward(ctx, g, _):
        (places,) = ctx.saved_tensors
        return dynarl.zeros_like(g).scatter(0, places, g)


class Once(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


def double(*values):
    return dynarl.tensor(values, dtype=dynarl.float64, requires_grad=True)


def test_first_and_second_order():
    assert gradcheck(Cube.apply, [double(1.0, -2.0)])
    assert gradgradcheck(Cube.apply, [double(1.0, -2.0)])


def test_static_arguments_and_needs():
    x, y = double(1.0, 2.0), double(3.0, 4.0)
    assert gradcheck(lambda a, b: Scale.apply(a, b, 2.5), [x, y])
    out = Scale.apply(x, y.detach(), 2.0)
    out.sum().backward()
    assert x.grad.tolist() == [6.0, 8.0] and y.grad is None


def test_several_outputs():
    x = double(0.3, 1.0)
    assert gradcheck(SinCos.apply, [x]) and gradgradcheck(SinCos.apply, [x])
    s, _ = SinCos.apply(x)  # the other output's gradient arrives as zeros
    s.sum().backward()
    assert x.grad.tolist() == pytest.approx(dynarl.cos(x).tolist())


def test_straight_through():
    x = double(0.4, 0.6)
    y = StraightThrough.apply(x)
    assert y.tolist() == [0.0, 1.0]
    (y * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_non_differentiable_output():
    x = double(3.0, 1.0, 2.0)
    values, places = SortWithPlaces.apply(x)
    assert values.requires_grad and not places.requires_grad
    (values * dynarl.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [100.0, 1.0, 10.0]


def test_once_differentiable():
    x = double(3.0)
    (g,) = dynarl.autograd.grad(Once.apply(x).sum(), x)
    assert g.tolist() == [6.0]
    (g,) = dynarl.autograd.grad((Once.apply(x) ** 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dynarl.autograd.grad(g.sum(), x)


def test_no_grad_and_no_need():
    x = double(1.0)
    with dynarl.no_grad():
        assert not Cube.apply(x).requires_grad
    assert not Cube.apply(x.detach()).requires_grad


def test_wrong_number_of_gradients():
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, g):
            return g

    with pytest.raises(RuntimeError, match=r"Wrong.*2.*1"):
        Wrong.apply(double(1.0), double(2.0)).sum().backward()


def test_wrong_shape_of_gradient():
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g.sum(0, keepdim=True).expand(3)

    with pytest.raises(RuntimeError, match=r"Wrong.*\(3,\).*\(2,\)"):
        Wrong.apply(double(1.0, 2.0)).sum().backward()


def test_saved_tensors_are_protected():
    x = double(1.0, 2.0)
    h = x * 1
    y = Cube.apply(h)
    h.mul_(2)
    with pytest.raises(RuntimeError, match="in place"):
        y.sum().backward()


def test_saved_tensors_after_backward():
    x = double(1.0)
    y = Cube.apply(x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="already freed"):
        y.sum().backward()
