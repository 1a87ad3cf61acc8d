"""Workers that run in this process, for tests of what is learned from them and in which order they deliver."""

import contextlib

import pytest

from dynarl.distributed import LocalTransport, attached, setup


class Shuffled(LocalTransport):
    """Runs the calls of different workers in another order."""

    def wait(self, refs, timeout):
        return [max(refs)] if refs else super().wait(refs, timeout)


@contextlib.contextmanager
def attached_here(agent, how, config, transport=LocalTransport, **options):
    """`attached`, with `transport` in the place of Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup.cluster, "connected", lambda *a, **k: contextlib.nullcontext())
        patch.setattr(setup.cluster, "require_resources", lambda *a: None)
        patch.setattr(setup, "require_packages", lambda *a: None)
        patch.setattr(setup, "_ray_transport", lambda *a: transport())
        with attached(agent, how, config, **options) as collector:
            yield collector
