"""State that a program makes and changes, in whatever object, is each sample's own: equal to samples run alone."""

import array
import collections
import copy
import dataclasses
import decimal
import functools
import hashlib
import heapq
import io
import queue
import random

import numpy as np

import dynarl
from dynarl import nn
from dynarl.batching import ObjectBatch, batched, per_sample
from tests.helpers.plain_reference import X, assert_equals_plain, in_every_mode, parametrize

CASES = {}
WRONG = {
    "class_made_by_the_program": "eager auto",
    "attribute_of_a_function_made_by_the_program": "eager auto",
    "list_in_an_exception": "eager auto",
    "attribute_of_an_exception": "eager auto lockstep",
    "iterator_of_numpy": "lockstep",
    "module_given_a_tensor": "lockstep",
}
"""Modes in which a case is wrong today; whoever makes it right takes it from here."""


def case(build):
    """Collect a function that returns a program, or (program, arguments)."""
    CASES[build.__name__] = build
    return build


# -- changes in place of arrays and plain Tensors ---------------------------------------------------------------------


@case
def array_added_to_in_an_if():
    def program(x):
        n = np.zeros(2)
        if x[0] > 0:
            n += 1
        return x + n

    return program


@case
def array_made_a_tensor_after_an_if_changed_it():
    def program(x):
        n = np.zeros(2)
        if x[0] > 0:
            n += 1
        return x + dynarl.tensor(n)

    return program


@case
def tensor_added_to_in_an_if():
    def program(x):
        n = dynarl.zeros(2, dtype=dynarl.float64)
        same = n
        if x[0] > 0:
            n += 1
        if x[1] > 0:
            n.mul_(3.0)
        return x + n + same

    return program


@case
def tensor_counter_in_a_while():
    def program(x):
        n, h = dynarl.zeros((), dtype=dynarl.float64), x
        while h.sum() < 4:
            h = h + 1
            n += 1
        return h * n

    return program


@case
def array_item_assigned_in_a_for():
    def program(x):
        seen = np.zeros((2, 3))
        view = seen[1]
        for i in range(3):
            if x[i % 2] > i - 1:
                seen[i % 2, i] = i + 1
        return x * float(seen.sum()) + float(view.max())

    return program


@case
def array_changed_by_a_function_of_numpy():
    def program(x):
        order = np.arange(4.0)
        if x[0] > 0:
            np.negative(order, out=order)
        if x[1] > 0:
            order.sort()
            order[::2] *= 2
        return x * float(order @ np.array([1.0, 10.0, 100.0, 1000.0]))

    return program


@case
def array_changed_after_an_operation_used_it():
    def program(x):
        m = np.zeros(2)
        a = x + m
        m += 5
        if x[0] > 0:
            a = a * 1.0
        return a + float(m.sum())

    return program


@case
def tensor_changed_after_an_operation_used_it():
    def program(x):
        m = dynarl.zeros(2, dtype=dynarl.float64)
        a = x + m
        m += 5
        if x[0] > 0:
            a = a + m
        m[0] = -1.0
        return a * m

    return program


# -- lists, dicts and other containers --------------------------------------------------------------------------------


@case
def list_made_in_the_first_turn_of_a_loop():
    def program(x):
        h, n = x, 0
        while n < 4:
            if n == 0:
                path = []
            path += [n + 1.0]
            if h[0] > 2:
                break
            h, n = h + 1, n + 1
        return x * sum(path)

    return program


@case
def list_under_two_names():
    def program(x):
        a = [1.0]
        b, c = a, (a, 2)
        if x[0] > 0:
            a += [2.0]
        if x[1] > 0:
            b.append(4.0)
            c[0][0] = 5.0
        return x * sum(a) + len(b)

    return program


@case
def containers_in_containers():
    def program(x):
        memory = {"seen": [[], {"n": 0}], "set": set()}
        for i in range(3):
            if x[i % 2] > i - 1:
                memory["seen"][0].append(i)
                memory["seen"][1]["n"] += 1
            memory["set"] |= {len(memory["seen"][0])}
        return x * (memory["seen"][1]["n"] + len(memory["set"]) + sum(memory["seen"][0]))

    return program


@case
def deque_counter_and_defaultdict():
    def program(x):
        recent, counts = collections.deque(maxlen=2), collections.Counter()
        groups = collections.defaultdict(list)
        for i in range(4):
            v = float(x[i % 2]) + i
            if v > 2:
                recent.append(v)
                counts[int(v)] += 1
            else:
                groups[i % 2].append(v)
        return x * sum(recent) + sum(counts.values()) + sum(sum(g) for g in groups.values())

    return program


@case
def tuple_that_holds_a_list_and_an_iterator():
    def program(x):
        state = ([], iter([1.0, 10.0, 100.0]))
        total = 0.0
        if x[0] > 0:
            state[0].append(2.0)
            total += next(state[1])
        if x[1] > 0:
            total += next(state[1]) + len(state[0])
        return x * total + sum(state[0])

    return program


@case
def generator_held_in_a_name():
    def program(x):
        def squares():
            n = 1.0
            while True:
                yield n * n
                n += 1

        numbers = squares()
        y = x
        while y.sum() < 4:
            y = y + next(numbers)
        if x[0] > 0:
            y = y * next(numbers)
        return y + next(numbers)

    return program


@case
def generator_that_branches_on_the_sample():
    def program(x):
        def parts(v):
            for i in range(3):
                if v[i % 2] > i - 1:
                    yield v * i
                else:
                    yield v - i

        total = x * 0
        for part in parts(x):
            if part.sum() > 1:
                total = total + part
        return total

    return program


@case
def slices_and_deletions_of_a_list():
    def program(x):
        parts = [1.0, 2.0, 3.0, 4.0]
        if x[0] > 0:
            del parts[1:3]
        if x[1] > 0:
            parts[:1] = [7.0, 8.0]
            parts.reverse()
        return x * parts[0] + sum(p * i for i, p in enumerate(parts))

    return program


@case
def list_that_holds_the_sample_s_tensors():
    def program(x):
        stack = [x]
        while len(stack) < 4 and stack[-1].sum() < 6:
            stack.append(stack[-1] * 2 + 1)
        if x[0] > 0:
            stack[0] = stack.pop() * 3
        return sum(stack) / len(stack)

    return program


@case
def bytearray_and_set():
    def program(x):
        marks, seen = bytearray(3), {0}
        for i in range(3):
            if x[i % 2] > i - 1:
                marks[i] = i + 1
                seen.add(i * 2)
        return x * sum(marks) + sum(seen)

    return program


# -- objects ----------------------------------------------------------------------------------------------------------


class Counting:
    """Counts its calls."""

    def __init__(self):
        self.n, self.trace = 0, []

    def tick(self, v):
        self.n += 1
        self.trace.append(self.n)
        return v + self.n


class Slotted:
    """An object without a `__dict__`."""

    __slots__ = ("values",)

    def __init__(self):
        self.values = {}


@dataclasses.dataclass
class State:
    h: object
    n: int = 0
    path: list = dataclasses.field(default_factory=list)


@case
def object_with_methods_in_if_and_while():
    def program(x):
        counter, h = Counting(), x
        if x[0] > 0:
            h = counter.tick(h)
        while h.sum() < 4:
            h = counter.tick(h)
        return h * counter.n + sum(counter.trace)

    return program


@case
def object_with_slots():
    def program(x):
        memory = Slotted()
        for i in range(3):
            if x[i % 2] > 0:
                memory.values[i] = i + 1.0
        return x * sum(memory.values.values())

    return program


@case
def object_called_for_its_value_in_a_for():
    def program(x):
        counter = Counting()
        h = x
        for i in range(3):
            h = counter.tick(h) if h[i % 2] < 1 else h * 1.5
        return h + counter.n

    return program


@case
def attribute_of_an_object_set_in_an_if():
    def program(x):
        state = State(x)
        other = state
        if x[0] > 0:
            state.n, state.h = 3, state.h * 2
            state.path += [1.0]
        if x[1] > 0:
            other.h = other.h + other.n
            del other.n
        return other.h * (1 + len(state.path)) + state.n

    return program


@case
def nonlocal_counter():
    def program(x):
        n = 0

        def tick():
            nonlocal n
            n += 1
            return n

        h = x
        while h.sum() < 4:
            h = h + tick()
        return h * n

    return program


@case
def closed_over_containers_of_the_program():
    def program(x):
        seen, memory = [], {"n": 0}

        def visit(v):
            seen.append(1.0)
            if v[1] > 0:
                memory["n"] += 1
            return v * 2

        y = x
        if x[0] > 0:
            y = visit(y)
        y = visit(y)
        return y * len(seen) + memory["n"]

    return program


@case
def partial_and_bound_method_over_state():
    def program(x):
        counter, seen = Counting(), []
        tick, keep = counter.tick, functools.partial(seen.append, 2.0)
        h = x
        for i in range(2):
            if h[i] > 0:
                h = tick(h)
                keep()
        return h + counter.n * 10 + sum(seen)

    return program


@case
def object_that_refers_to_itself():
    def program(x):
        node = State(x, 1)
        node.path.append(node)
        if x[0] > 0:
            node.path[0].n += 4
        return x * node.n + len(node.path)

    return program


@case
def class_made_by_the_program():
    def program(x):
        class Memory:
            seen = []
            n = 0

        if x[0] > 0:
            Memory.seen.append(1.0)
            Memory.n += 1
        return x * len(Memory.seen) + Memory.n

    return program


@case
def attribute_of_a_function_made_by_the_program():
    def program(x):
        def scaled(v):
            return v * scaled.factor

        scaled.factor = 1.0
        if x[0] > 0:
            scaled.factor = 3.0
        return scaled(x)

    return program


@case
def list_in_an_exception():
    def program(x):
        try:
            if x[0] > 0:
                raise ValueError([1.0])
            raise ValueError([])
        except ValueError as error:
            kept = error
        if x[1] > 0:
            kept.args[0].append(5.0)
        return x * sum(kept.args[0])

    return program


@case
def attribute_of_an_exception():
    def program(x):
        error = ValueError()
        error.n = 0
        if x[0] > 0:
            error.n = 1
        if x[1] > 0:
            error.n += 2
        return x * error.n

    return program


@case
def iterator_of_numpy():
    def program(x):
        a = np.zeros((2, 2))
        cells = np.nditer(a, op_flags=["readwrite"])
        if x[0] > 0:
            for cell in cells:
                cell[...] = 2.0
        if x[1] > 0:
            a[0].fill(5.0)
        return x + float(a.sum())

    return program


@case
def containers_of_the_library():
    def program(x):
        chain, ordered = collections.ChainMap({"a": 1.0}, {"b": 2.0}), collections.OrderedDict(a=1.0, b=2.0)
        heap, numbers = [1.0, 3.0], array.array("d", [1.0])
        if x[0] > 0:
            chain["a"] = 5.0
            ordered.move_to_end("a")
            heapq.heappush(heap, 0.5)
            numbers.append(4.0)
        if x[1] > 0:
            del chain["a"]
        return x * sum(chain.values()) + next(iter(ordered.values())) * heapq.heappop(heap) + sum(numbers)

    return program


def written_in_c(name, make, change, look):
    """Collect a program that changes an object whose state Python cannot read."""

    def build():
        def program(x):
            state = make()
            if x[0] > 0:
                change(state)
            return x * look(state)

        return program

    CASES[name] = build


written_in_c("generator_with_a_seed", lambda: random.Random(3), lambda s: s.random(), lambda s: s.random())
written_in_c("generator_of_numpy", lambda: np.random.default_rng(3), lambda s: s.random(), lambda s: s.random())
written_in_c("hash", hashlib.md5, lambda s: s.update(b"abc"), lambda s: s.digest()[0])
written_in_c("queue_written_in_c", queue.SimpleQueue, lambda s: s.put(1), lambda s: s.qsize())
written_in_c("text_in_memory", io.StringIO, lambda s: s.write("abc"), lambda s: len(s.getvalue()))
written_in_c(
    "array_of_objects", lambda: np.array([[], None], object), lambda s: s[0].append(4.0), lambda s: 1 + sum(s[0])
)
written_in_c(
    "decimal_context",
    lambda: decimal.Context(prec=5),
    lambda s: setattr(s, "prec", 2),
    lambda s: float(s.divide(decimal.Decimal(1), decimal.Decimal(3))),
)


@case
def subclasses_of_containers():
    class Listed(list):
        def __init__(self, values):
            super().__init__(values)
            self.n = 0

        def append(self, value):
            self.n += 1
            super().append(value)

    class Lists(dict):
        def __missing__(self, key):
            self[key] = []
            return self[key]

    def program(x):
        listed, lists = Listed([1.0]), Lists()
        if x[0] > 0:
            listed.append(2.0)
            lists["a"].append(1.0)
        if x[1] > 0:
            lists["a"].append(3.0)
        return x * sum(listed) + listed.n + sum(lists["a"])

    return program


@case
def default_argument_of_an_inner_function():
    def program(x):
        def add(v, seen=[]):  # noqa: B006
            seen.append(v.sum())
            return sum(seen)

        y = x
        if x[0] > 0:
            y = y + add(y)
        return y + add(y)

    return program


@case
def copies_are_independent():
    def program(x):
        first = {"n": [1.0]}
        second, third = copy.copy(first), copy.deepcopy(first)
        if x[0] > 0:
            second["n"].append(2.0)
            third["n"] += [3.0, 4.0]
        return x * sum(first["n"]) + sum(third["n"])

    return program


# -- state given to and returned by Modules and per-sample functions --------------------------------------------------


class Step(nn.Module):
    """Changes what it is given, for some samples."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x, memory=None, **named):
        memory = named.get("kept", memory)
        if x[0] > 0:
            self.change(memory)
        return x * 2


def changes(change, make, size):
    """Build a Module that gives state to another twice."""

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = Step(change)

        def forward(self, x):
            memory = make()
            y = self.step(x, memory) + self.step(-x, memory=memory)
            y = y + self.step(x, kept=memory)
            return y * (1 + size(memory))

    return Program()


@case
def module_given_a_list_in_a_dict():
    return changes(lambda m: m["seen"].append(1.0), lambda: {"seen": []}, lambda m: len(m["seen"]))


@case
def module_given_a_list_of_lists():
    return changes(lambda m: m[0].append(1.0), lambda: [[], []], lambda m: len(m[0]))


@case
def module_given_a_dataclass():
    def change(memory):
        memory.n += 1
        memory.path.append(2.0)

    return changes(change, lambda: State(None), lambda m: m.n + sum(m.path))


@case
def module_given_an_object():
    return changes(lambda m: m.tick(0), Counting, lambda m: m.n + len(m.trace))


@case
def module_given_a_deque():
    return changes(lambda m: m.append(1), collections.deque, len)


@case
def module_given_a_counter():
    return changes(lambda m: m.update("a"), collections.Counter, lambda m: m["a"])


@case
def module_given_an_array():
    return changes(lambda m: m.__iadd__(1.0), lambda: np.zeros(2), lambda m: float(m.sum()))


@case
def module_given_a_tensor():
    return changes(lambda m: m.add_(1.0), lambda: dynarl.zeros(2), lambda m: float(m.sum()))


@case
def module_given_an_iterator():
    return changes(next, lambda: iter(range(9)), lambda m: next(m))


@case
def module_given_a_function_over_state():
    def make():
        seen = []

        def visit():
            seen.append(1)
            return len(seen)

        return visit

    return changes(lambda m: m(), make, lambda m: m())


@case
def per_sample_function_given_state():
    @per_sample
    def step(v, memory, *rest, kept):
        if v[0] > 0:
            memory["n"][0] += 1
            kept.append(len(rest[0]))
            rest[0].append(3.0)
        return v + memory["n"][0]

    def program(x):
        memory, kept, rest = {"n": [0]}, [], []
        h = step(x, memory, rest, kept=kept)
        h = step(h - 2, memory, rest, kept=kept)
        return h + sum(kept) + sum(rest) * 10 + memory["n"][0] * 100

    return program


class Cell(nn.Module):
    """Returns an object with state."""

    def forward(self, x):
        state = State(x * 2)
        if x[1] > 0:
            state.path.append(1.0)
        return state


@case
def dataclass_returned_by_a_module_and_changed():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = Cell()

        def forward(self, x):
            s = self.cell(x)
            s.n += 1
            if x[0] > 0:
                s.path.append(5.0)
                return s.h * s.n + sum(s.path)
            return s.h + s.n + sum(s.path)

    return Program()


@case
def object_returned_by_a_per_sample_function_and_changed():
    @per_sample
    def make(v):
        counter = Counting()
        if v[0] > 0:
            counter.tick(0)
        return counter, [counter]

    def program(x):
        counter, (same,) = make(x)
        h = counter.tick(x)
        if x[1] > 0:
            h = h + same.tick(h)
        return h + counter.n + sum(same.trace)

    return program


@case
def array_returned_by_a_module_and_changed():
    class Make(nn.Module):
        def forward(self, x):
            return np.full(2, 1.0 if x[0] > 0 else 2.0), x * 2

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.make = Make()

        def forward(self, x):
            a, y = self.make(x)
            a += 1
            if x[1] > 0:
                a *= 3
            return y * float(a.sum())

    return Program()


# -- state given by the caller ----------------------------------------------------------------------------------------


def states():
    return [State(x.copy(), i % 3, [float(i)]) for i, x in enumerate(X)]


@case
def object_batch_of_dataclasses_with_lists():
    def program(x, state):
        state.n += 1
        state.path.append(state.n * 1.0)
        if x[0] > 0:
            state.path.append(7.0)
            state.h = state.h * 2
        return state.h * sum(state.path) + state.n

    return program, (X, ObjectBatch(states()))


@case
def object_batch_of_tuples_with_lists():
    def program(x, item):
        numbers, (table,) = item
        numbers.append(2.0)
        table["n"] += 1
        if x[0] > 0:
            numbers += [table["n"]]
        return x * sum(numbers)

    return program, (X, ObjectBatch([([1.0], ({"n": 3},)) for _ in X]))


@case
def object_batch_with_one_list_under_two_names():
    def item():
        shared = [1.0]
        return {"a": shared, "b": shared}

    def program(x, item):
        if x[0] > 0:
            item["a"].append(2.0)
        item["b"][0] = 5.0
        return x * sum(item["b"]) + sum(item["a"])

    return program, (X, ObjectBatch([item() for _ in X]))


class Simulator:
    """An environment of the user's own: each step changes it."""

    def __init__(self, start):
        self.position, self.steps = start, 0

    def step(self, move):
        self.steps += 1
        self.position += move
        return self.position


@case
def simulators_stepped_in_a_loop_with_a_list():
    def program(x, simulator):
        found, h = [], x
        for _ in range(3):
            position = simulator.step(1 if h[0] > 0 else -1)
            found.append(h * position)
            h = h + 0.5 if position > 1 else h - 0.25
        return sum(found) * simulator.steps

    return program, (X, ObjectBatch([Simulator(i) for i in range(len(X))]))


@case
def tuple_argument_that_holds_lists():
    def program(x, state):
        state[0].append(x[0] * 2)
        if x[1] > 0:
            state[0].append(state[1]["h"])
        return x * sum(state[0]) + len(state[0])

    class Program(nn.Module):
        def forward(self, x):
            return program(x, ([x[1]], {"h": x[0]}))

    return Program()


@in_every_mode()
def test_objects_of_the_caller_are_left_as_they_were(mode):
    given = states()
    before = copy.deepcopy(given)

    def program(x, state):
        state.n += 1
        state.path.append(1.0)
        if x[0] > 0:
            state.path.clear()
        return x * state.n

    batched(program, mode=mode)(X, ObjectBatch(given))
    for state, old in zip(given, before):
        assert (state.n, state.path) == (old.n, old.path)


@in_every_mode()
def test_a_simulator_of_the_caller_is_left_as_it_was(mode):
    simulators = [Simulator(i) for i in range(len(X))]

    def program(x, simulator):
        for _ in range(3):
            x = x + simulator.step(1 if x[0] > 0 else -1)
        return x

    batched(program, mode=mode)(X, ObjectBatch(simulators))
    assert [(s.steps, s.position) for s in simulators] == [(0, i) for i in range(len(X))]


@parametrize(CASES, WRONG)
def test_program_equals_its_samples_alone(case, mode):
    assert_equals_plain(case, mode)
