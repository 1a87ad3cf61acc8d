"""Fixtures of the tests of per-sample programs."""

import pytest

from dynarl.batching.guard.guard import Guard
from dynarl.batching.self_check import SelfCheck


@pytest.fixture
def unguarded(monkeypatch):
    """Let a test's program note what it sees, batched, in variables around it: the guard would refuse that."""
    monkeypatch.setattr(Guard, "undo", lambda self: [])
    monkeypatch.setattr(SelfCheck, "is_due", lambda self, run: False)
