"""Every protection of per-sample programs is needed: without it a program differs from plain Python.

Each test runs its program as it is, then with one protection switched off, and expects a wrong value or gradient.
"""

import dataclasses
import importlib
import linecache
from collections import deque
from types import CellType
from typing import Any

import numpy as np
import pytest

import dynarl
from dynarl.autograd.graph import Node
from dynarl.autograd.tensor import wrap
from dynarl.batching import PerSampleError, batched
from dynarl.batching.groups.group import split
from dynarl.batching.lockstep.trace_ops import _Kept
from dynarl.batching.scopes.source import _File
from dynarl.batching.values import kinds
from tests.batching import test_faults_rewrite, test_faults_state, test_faults_statements, test_faults_values
from tests.batching.test_faults_rewrite import PROGRAM_IN_A_FILE, imported
from tests.helpers.plain_reference import X, assert_equals_plain

CASES = {
    **test_faults_rewrite.CASES,
    **test_faults_statements.CASES,
    **test_faults_state.CASES,
    **test_faults_values.CASES,
}


def nothing(*args, **kwargs):
    """Stands in for what restores, undoes or checks."""


def same(value, *args):
    """Stands in for what copies."""
    return value


def recorded_if_enabled(*args):
    """Stands in for a node of the graph that is made under no_grad as well."""
    return Node(*args) if dynarl.is_grad_enabled() else None


def unproven_source(function):
    """Return what the file says now where a function was."""
    code = function.__code__
    file = _File("".join(linecache.getlines(code.co_filename)), code.co_filename, 0)
    return file.sources[code.co_name, code.co_firstlineno][0]


class NotCopied(_Kept):
    """An operand of a put-off operation that the program can still change."""

    def __init__(self, original, tensor, content, root):
        super().__init__(original, tensor, content, root)
        self.tensor = tensor
        self.sample.tensor = wrap(np.broadcast_to(tensor.array, (root.size, *tensor.shape)))


@dataclasses.dataclass(frozen=True)
class Off:
    """A protection, what takes its place, and a program that needs it."""

    what: str
    place: str  # module:name or module:class.name of dynarl.batching
    instead: Any
    case: str
    mode: str = "eager"


OFF = [
    # what a path finds, and what it leaves
    Off("contents restored", "values.heap:Heap.restore", nothing, "closed_over_containers_of_the_program"),
    Off("changes joined", "values.heap:Heap.changed", lambda heap: [], "module_given_a_list_in_a_dict"),
    Off("closures of helpers", "eager.eager_execution:reached_by", lambda f: (),
        "closed_over_containers_of_the_program"),
    Off("variables that inner functions assign", "values.kinds:assigns_outer", lambda code: False, "nonlocal_counter"),
    Off("results made anew", "eager.eager_execution:packed", same, "module_given_a_dataclass"),
    Off("arguments restored", "batched:_restoring", lambda f: lambda heap, *a, **k: f(*a, **k),
        "object_batch_of_tuples_with_lists"),
    Off("classes written in C", "values.kinds:_is_native", lambda cls: cls is object, "hash"),
    # tensors
    Off("changes in place joined", "eager.eager_execution:join_changes", nothing, "alias_sees_an_addition_in_an_if"),
    Off("copies of operands", "lockstep.trace_ops:_Kept", NotCopied,
        "array_changed_after_an_operation_used_it", "lockstep"),
    Off("history kept under no_grad", "groups.rows:Node", recorded_if_enabled, "join_of_a_while_under_no_grad"),
    # values
    Off("signs of zero", "eager.eager_execution:split", lambda values: split(values + 0.0), "sign_of_zero"),
    Off("signs of zero in objects", "values.object_batch:number_key", same, "sign_of_zero_in_objects"),
    # source
    Off("functions that read their frame", "scopes.rewritten:_FRAME", frozenset(), "locals_are_read"),
]  # fmt: skip


def switch_off(monkeypatch, place, instead):
    module, _, name = place.partition(":")
    owner = importlib.import_module(f"dynarl.batching.{module}")
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, last, instead)
    rewritten = importlib.import_module("dynarl.batching.scopes.rewritten")
    monkeypatch.setattr(rewritten, "_compiled_codes", {})
    kept = {kind: made for kind, made in kinds._KINDS.items() if not kind.__module__.startswith("tests.")}
    monkeypatch.setattr(kinds, "_KINDS", kept)  # what was learned about the tests' classes is forgotten
    monkeypatch.setattr(kinds, "FIXED", set(kinds.FIXED))


@pytest.mark.parametrize("off", [pytest.param(off, id=off.what) for off in OFF])
def test_without_it_a_program_is_wrong(off, monkeypatch):
    assert_equals_plain(CASES[off.case], off.mode)
    switch_off(monkeypatch, off.place, off.instead)
    with pytest.raises(AssertionError):
        assert_equals_plain(CASES[off.case], off.mode, check=0)
    with pytest.raises(PerSampleError, match="self-check"):  # the self-check finds it
        assert_equals_plain(CASES[off.case], off.mode)


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        (list, "containers_in_containers"),
        (dict, "module_given_a_list_in_a_dict"),
        (set, "bytearray_and_set"),
        (bytearray, "bytearray_and_set"),
        (deque, "deque_counter_and_defaultdict"),
        (np.ndarray, "array_added_to_in_an_if"),
        (dynarl.Tensor, "tensor_counter_in_a_while"),
        (CellType, "nonlocal_counter"),
        (test_faults_state.Counting, "object_with_methods_in_if_and_while"),
        (test_faults_state.Slotted, "object_with_slots"),
    ],
)
def test_objects_of_a_kind_that_is_taken_for_unchanging_are_wrong(kind, case, monkeypatch):
    new_kind = kinds._new_kind
    assert_equals_plain(CASES[case], "eager")
    switch_off(monkeypatch, "values.kinds:_new_kind", lambda cls: None if cls is kind else new_kind(cls))
    kinds._KINDS.pop(kind, None)
    with pytest.raises(AssertionError):
        assert_equals_plain(CASES[case], "eager", check=0)


def test_source_that_is_not_proven_is_another_program(tmp_path, monkeypatch):
    path = tmp_path / "guarded_program.py"
    path.write_text(PROGRAM_IN_A_FILE.format(factor=2))
    program = imported(path, "guarded_program").program
    path.write_text(PROGRAM_IN_A_FILE.format(factor=50))
    linecache.checkcache(str(path))
    switch_off(monkeypatch, "scopes.rewritten:source_of", unproven_source)
    np.testing.assert_allclose(batched(program, check=0)(X).numpy(), np.where(X[:, :1] > 0, X * 50, X))
