"""Wiring: everything that batching sets in the packages below it, in this one place.

The packages below do not import batching. They read variables of `dynarl.autograd.dispatch`, which this module sets:

    variable                                          set to                              when
    ------------------------------------------------  ----------------------------------  ---------------------------
    sample_type, apply_per_sample, in_batched_call    SampleTensor, `apply`, whether      once, on import
                                                      `state` has an execution
    batching_rules                                    `FUNCTIONS` of rules.functions      once, on import
                                                      and rules.indexing
    call_module, random_functions                     `call_module` of scopes.modules,    inside `batched_run_open`
                                                      `FUNCTIONS` of random
    refuse_attribute, refuse_memory                   functions of guard.guard            once, on import

Inside batching, `RULES` and `SHAREABLE` of rules.table are filled by rules.operations, rules.functions and
rules.indexing, and the table of nodes in values.pytree grows by `register_node`.
"""

from __future__ import annotations

from dynarl.autograd import dispatch
from dynarl.batching import random
from dynarl.batching.groups.execution import apply, state
from dynarl.batching.guard.guard import refuse_attribute, refuse_memory
from dynarl.batching.rules import functions, gradient_inside, indexing
from dynarl.batching.rules.change_in_place import made, refuse_shared
from dynarl.batching.scopes.modules import call_module
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["batched_run_open"]

dispatch.register_sample_type(SampleTensor, apply, lambda: state.execution is not None)
dispatch.register_refusals(refuse_attribute, refuse_memory)
dispatch.batching_rules.update({**functions.FUNCTIONS, **indexing.FUNCTIONS})
dispatch.batching_rules.update({"made": made, "refuse_shared": refuse_shared, "grad": gradient_inside.grad})


class batched_run_open:
    """In a `with` block: calls of Modules are join scopes, and random functions draw for each sample separately."""

    _open = 0

    def __enter__(self) -> None:
        batched_run_open._open += 1
        dispatch.set_batched_call(call_module, random.FUNCTIONS)

    def __exit__(self, *error: object) -> None:
        batched_run_open._open -= 1
        if not batched_run_open._open:
            dispatch.set_batched_call(None, None)
