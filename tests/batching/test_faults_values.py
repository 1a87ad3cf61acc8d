"""A per-sample tensor is a Tensor: values, gradients, identity and text equal those of samples run alone."""

import copy
import dataclasses
import functools
import math

import numpy as np

import dynarl
from dynarl import nn
from dynarl.batching import ObjectBatch, per_sample
from tests.helpers.plain_reference import X, assert_equals_plain, parametrize

CASES = {}
WRONG = {
    "recursion_through_a_module": "eager auto lockstep",
}
"""Modes in which a case is wrong today; whoever makes it right takes it from here."""


def case(build):
    """Collect a function that returns a program, or (program, arguments)."""
    CASES[build.__name__] = build
    return build


# -- gradients --------------------------------------------------------------------------------------------------------


@case
def join_of_an_if_under_no_grad():
    def program(x):
        h = x * 2
        with dynarl.no_grad():
            if x[0] > 0:
                h = h * 0 + 1  # a constant for these samples; the others keep h, with its gradient
        return h * 3

    return program


@case
def join_of_a_while_under_no_grad():
    def program(x):
        h = x * 2
        with dynarl.no_grad():
            while h.sum() > 0:
                h = h - 1
        return h * 3

    return program


@case
def join_of_both_branches_under_no_grad():
    def program(x):
        h = x * 2
        with dynarl.no_grad():
            y = h
            if x[0] > 0:
                y = h + 1
            else:
                y = h
        return h + y

    return program


@case
def per_sample_function_under_no_grad_returns_its_argument():
    @per_sample
    def settle(v):
        if v[0] > 0:
            return v
        return v * 2

    def program(x):
        h = x * 2
        with dynarl.no_grad():
            y = settle(h)
        return h * y

    return program


@case
def module_under_no_grad_returns_its_argument():
    class Settle(nn.Module):
        def forward(self, v):
            if v[1] > 0:
                return v, v * 3
            return v + 1, v

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.settle = nn.Linear(2, 2, dtype=np.float64), Settle()

        def forward(self, x):
            h = self.linear(x)
            with dynarl.no_grad():
                a, b = self.settle(h)
            return a * b + h

    return Program()


@case
def enable_grad_inside_no_grad():
    def program(x):
        h = x * 2
        with dynarl.no_grad():
            y = h
            if x[0] > 0:
                with dynarl.enable_grad():
                    y = h * h
                    if x[1] > 0:
                        y = y * 2
            z = y * 3
        return y + z

    return program


@case
def set_grad_enabled_by_a_sample():
    def program(x):
        h = x * 2
        with dynarl.set_grad_enabled(bool(x[0] > 0)):
            y = h * h
            if x[1] > 0:
                y = y + h
        return y + h

    return program


@case
def values_read_before_no_grad_are_used_after():
    def program(x):
        h = x * 2
        part = h[:1]
        with dynarl.no_grad():
            if h[0] > 0:
                scale = part * 2
            else:
                scale = part
        return scale * part + h

    return program


@case
def gradient_inside():
    def program(x):
        z = (x * 0).detach().requires_grad_(True)
        (g,) = dynarl.grad(((z - x) ** 2).sum(), [z])
        return z - 0.5 * g

    return program


@case
def gradient_inside_a_loop_and_an_if():
    def program(x):
        z = x.detach().clone().requires_grad_(True)
        for _ in range(2):
            loss = (z * z).sum() * x[1]
            if x[0] > 0:
                loss = loss + z.exp().sum() * x[0]
            (g,) = dynarl.grad(loss, [z], create_graph=True)
            z = z - 0.1 * g
        return z

    return program


@case
def second_order_gradient_inside():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2, dtype=np.float64)

        def forward(self, x):
            fast = self.linear.weight
            y = (x @ fast).tanh()
            if x[0] > 0:
                y = y * x
            (g,) = dynarl.grad((y**2).sum(), [fast], create_graph=True)
            return x @ (fast - 0.1 * g)

    return Program()


@case
def detach_in_a_branch():
    def program(x):
        h = x * x
        if x[0] > 0:
            h = h.detach()
        return h * x

    return program


# -- changes in place of the sample's own tensors ---------------------------------------------------------------------


@case
def alias_sees_an_addition_in_place():
    def program(x):
        h = x * 1
        result = h
        h += 1
        return h + result

    return program


@case
def alias_sees_an_addition_in_an_if():
    def program(x):
        h = x * 1
        kept = {"h": [h]}
        if x[0] > 0:
            h += 1
        if x[1] > 0:
            kept["h"][0] *= 2
        return h + kept["h"][0]

    return program


@case
def method_with_an_underscore():
    def program(x):
        h = x * 1
        same = h
        if x[0] > 0:
            h.add_(1.0).mul_(2.0)
        else:
            h.sub_(x)
        return same * x

    return program


@case
def total_that_starts_as_a_plain_tensor():
    def program(x):
        total = dynarl.zeros(2, dtype=dynarl.float64)
        for i in range(3):
            if x[0] > i - 1:
                total += x * i
        return total

    return program


@case
def in_place_in_a_while_with_a_list():
    def program(x):
        h, seen = x * 1, []
        seen.append(h)
        while h.sum() < 4:
            h += 1
            seen.append(h * 1)
        return sum(seen) + h

    return program


@case
def object_with_an_operator_in_place():
    class Total:
        def __init__(self):
            self.value = 0.0

        def __iadd__(self, v):
            self.value = self.value + v
            return self

    def program(x):
        total = Total()
        same = total
        for i in range(2):
            if x[i] > 0:
                total += x[i]
        return x * same.value

    return program


# -- numbers ----------------------------------------------------------------------------------------------------------

ZEROS = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, -0.0], [-0.0, -0.0]])


@case
def sign_of_zero():
    def program(x):
        return x * 0 + math.copysign(1.0, float(x[0]))

    return program, (ZEROS,)


@case
def sign_of_zero_by_atan2_and_text():
    def program(x):
        angle = math.atan2(x[0].item(), -1.0)
        return x + angle + len(str(x.tolist())) + len(f"{float(x[1])}")

    return program, (ZEROS,)


@case
def sign_of_zero_in_objects():
    def program(x, item):
        return x * 0 + math.copysign(1.0, item["v"]) + math.copysign(2.0, item["w"])

    return program, (ZEROS, ObjectBatch([{"v": float(z), "w": -float(z)} for z in ZEROS[:, 0]]))


@case
def infinities_and_not_a_number():
    values = np.array([[np.inf, 1.0], [-np.inf, 1.0], [np.nan, 2.0], [np.nan, 1.0], [3.0, 1.0]])

    def program(x):
        v = float(x[0])
        if v != v:
            return x[1] * 5
        return x[1] + (1.0 if v > 1 else 2.0) + min(v, 9.0) * (abs(v) < 9)

    return program, (values,)


@case
def float_kept_and_computed_with():
    def program(x):
        step, y = float(x[0]), x
        for _ in range(3):
            if (y - step).sum() > 0:
                step = step * 0.5 + 1
            y = y - step
        return y * round(step, 3) + math.floor(step)

    return program


@case
def sums_and_orders_of_elements():
    def program(x):
        parts = [x[0], x[1], x[0] * x[1]]
        ordered = sorted(parts)
        largest, smallest = max(parts), min(*parts)
        y = x + ordered[0] - ordered[-1] * 2 + largest * 3 + smallest
        if any(p > 2 for p in parts) and not all(p > -1 for p in parts):
            y = y * 2
        return y + sum(parts, x[1]) + sum(p > 0 for p in parts)

    return program


# -- iteration, text, keys --------------------------------------------------------------------------------------------


@case
def iteration_over_elements():
    def program(x):
        n = 0
        for v in x:
            if v > 0:
                n += 1
        return x * n

    return program


@case
def iteration_by_enumerate_zip_and_unpacking():
    def program(x):
        a, b = x
        total = a * 0
        for i, (v, w) in enumerate(zip(x, reversed(list(x)))):
            if v > w:
                total = total + v * i
            else:
                total = total - w
        first, *_ = x
        return total + a * b + first

    return program


@case
def iteration_with_an_early_return():
    def program(x):
        for i, v in enumerate(x):
            if v < 0:
                return x * i
        return -x

    return program


@case
def iteration_over_rows_in_a_comprehension():
    def program(x):
        m = dynarl.stack([x, x * 2, -x])
        return sum([row * row.sum() for row in m if row.max() > 1], x)

    return program


@case
def is_a_tensor():
    def program(x):
        y = x * 2
        if x[0] > 0:
            y = y + 1
        checks = [isinstance(x, dynarl.Tensor), isinstance(y[0], dynarl.Tensor), dynarl.is_tensor(y)]
        return y * sum(checks)

    return program


@case
def dispatch_on_the_type():
    @functools.singledispatch
    def scaled(v):
        return 100.0

    @scaled.register
    def _(v: dynarl.Tensor):
        return v * 2

    def program(x):
        match x:
            case dynarl.Tensor():
                y = scaled(x)
            case _:
                y = scaled(1)
        return y

    return program


@case
def text_of_a_tensor():
    def program(x):
        row = x.detach()  # without history, which a row of a batch has and a sample alone has not
        k, v = row.argmax(), row[0]
        words = [str(k), f"{k}", f"{v:.2f}", f"{v}", str(row), f"{row}"]
        return x * sum(len(w) + sum(map(ord, w)) for w in words)

    return program


@case
def text_of_a_tensor_with_history():
    def program(x):
        h = x * 2
        return x * (len(str(h)) + len(str(h.detach()))) + len(f"{(h.detach() > 0).sum()}")

    return program


@case
def formatted_tensor_as_a_key():
    def program(x):
        return x * {"0": 1.0, "1": 2.0}[f"{x.argmax().item()}"] + {True: 3.0, False: 4.0}[bool(x[0] > 0)]

    return program


@case
def formatted_0_dim_tensor_as_a_key():
    def program(x):
        table = {f"{dynarl.tensor(0)}": 1.0, f"{dynarl.tensor(1)}": 2.0}
        return x * table[f"{x.argmax()}"]

    return program


@case
def dict_keyed_by_values():
    def program(x):
        table = {}
        for i in range(4):
            key = int(x[i % 2].floor()) % 3
            table[key] = table.get(key, 0.0) + x[i % 2] * i
        return sum(v * (k + 1) for k, v in table.items()) + len(table)

    return program


@case
def tensors_as_keys():
    def program(x):
        a, b = x[0], x[1]
        names = {a: 1.0, b: 2.0}
        chosen = a if a > b else b
        return x * names[chosen] + (chosen is a) + len({a, b, chosen})

    return program


@case
def text_joined_in_a_loop():
    def program(x):
        word = ""
        for v in x:
            word += "p" if v > 0 else "n"
            word = word.upper() if v > 1 else word
        return x * {"pp": 1.0, "PP": 2.0}.get(word, len(word) + word.count("n") * 0.5)

    return program


# -- exceptions, copies, caches ---------------------------------------------------------------------------------------


@case
def exception_that_carries_a_tensor():
    class Stopped(Exception):
        def __init__(self, value):
            super().__init__("stopped")
            self.value = value

    @per_sample
    def settle(v):
        for i in range(3):
            v = v + i
            if v.sum() > 3:
                raise Stopped(v)
        return v * 2

    def program(x):
        try:
            return settle(x)
        except Stopped as stop:
            return stop.value * 5

    return program


@case
def exception_from_a_module_with_arguments():
    class Checked(nn.Module):
        def forward(self, v):
            if v[0] > 0:
                raise ValueError(v * 2, int(v.argmax()))
            return v

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.checked = Checked()

        def forward(self, x):
            try:
                y = self.checked(x)
            except ValueError as error:
                y = error.args[0] * (1 + error.args[1])
            finally:
                x = x + 1
            return y * x

    return Program()


@case
def exception_raised_again_from_another():
    def inner(v):
        if v[1] > 0:
            raise KeyError("low")
        return v

    def outer(v):
        try:
            return inner(v)
        except KeyError as error:
            if v[0] > 0:
                raise RuntimeError(v) from error
            return v * 3

    def program(x):
        try:
            return outer(x)
        except RuntimeError as error:
            return error.args[0] + len(error.__cause__.args[0])

    return program


@case
def deep_copy_of_state():
    def program(x):
        s = copy.deepcopy({"h": x.detach()})
        return s["h"] + x

    return program


@case
def deep_copy_changed_in_an_if():
    def program(x):
        state = {"h": x.detach() * 2, "n": [0]}
        other = copy.deepcopy(state)
        if x[0] > 0:
            other["h"] += 1
            other["n"][0] = 3
        shallow = copy.copy(other)
        return state["h"] + shallow["h"] * x + other["n"][0] + state["n"][0]

    return program


@case
def dataclass_replaced():
    @dataclasses.dataclass(frozen=True)
    class State:
        h: object
        n: int

    def program(x):
        state = State(x, 0)
        while state.h.sum() < 4 and state.n < 5:
            state = dataclasses.replace(state, h=state.h + 1, n=state.n + 1)
        return state.h * state.n

    return program


@case
def cache_made_inside():
    def program(x):
        @functools.lru_cache
        def power(n):
            return x if n == 0 else power(n - 1) * (2.0 if x[0] > 0 else 0.5)

        y = power(2)
        if x[1] > 0:
            y = y + power(3) + power(1)
        return y + power(2)

    return program


@case
def cache_first_asked_in_a_branch():
    def program(x):
        @functools.lru_cache
        def power(n):
            if x[1] > 0:
                return n + 1.0
            return n - 1.0

        y = x
        if x[0] > -0.9:
            y = x * 0.5 + power(1) * 0.1
        return y + power(1)

    return program


@case
def leaf_made_after_samples_parted():
    class Holder:
        pass

    def program(x):
        holder = Holder()
        holder.value = x
        if x[0] > 0:
            del holder.value
        leaf = (x * 2).detach().requires_grad_(True)
        (gradient,) = dynarl.grad((leaf * leaf * x).sum(), [leaf])
        return gradient + hasattr(holder, "value")

    return program


@case
def plain_total_of_a_parameter_in_a_while():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(dynarl.tensor(np.array([0.5, -1.5])))

        def forward(self, x):
            total, n = dynarl.zeros(2, dtype=dynarl.float64), 0
            while x[0] > 0 and n < 3:
                n += 1
                total += self.weight
            return total * x

    return Program()


@case
def strings_of_numpy_in_objects():
    names = np.array(["up", "down", "up", "left", "down", "up"])

    def program(x, item):
        return x * len(item["name"]) + item["name"].startswith("u")

    return program, (X, ObjectBatch([{"name": name} for name in names]))


@case
def objects_with_parents():
    class Node:
        def __init__(self, v, parent=None):
            self.v, self.parent, self.children = v, parent, []
            if parent is not None:
                parent.children.append(self)

    def tree(i):
        root = Node(i)
        for k in range(i % 3):
            Node(k + 1, root)
        return root

    def program(x, node):
        y = x * node.v
        for child in node.children:
            y = y + child.v * child.parent.v
        return y

    return program, (X, ObjectBatch([tree(i) for i in range(len(X))]))


@case
def recursion_through_a_module():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(dynarl.tensor(0.99, dtype=dynarl.float64))

        def forward(self, x, depth=150):
            if depth == 0 or x.sum() > 6:
                return x
            return self(x * self.scale + 0.01, depth - 1)

    return Program()


@parametrize(CASES, WRONG)
def test_program_equals_its_samples_alone(case, mode):
    assert_equals_plain(case, mode)
