"""Options and fixtures of the whole suite."""

from collections.abc import Iterator

import pytest

from tests.helpers import strict_device


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default=strict_device.NAME,
        help="run device tests on this device: the strict stand-in (default) or cuda",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if all(item.get_closest_marker("gpu") is None for item in items):
        return
    reason = _why_no_gpu()
    for item in items:
        if reason and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_gpu() -> str | None:
    """The one line that `--device cuda` would give a user here, or None."""
    import dynarl

    try:
        dynarl.zeros(1, device="cuda")
    except RuntimeError as error:
        return str(error)
    return None


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """The device under test: `strict` (arrays that refuse silent conversion to NumPy) or cuda."""
    name = str(request.config.getoption("--device"))
    if name == strict_device.NAME:
        strict_device.register()
    elif name.startswith("cuda") and (reason := _why_no_gpu()):
        pytest.skip(reason)
    return name


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Every test starts from the same global seed (only torch-like code uses the global generator)."""
    import dynarl

    dynarl.manual_seed(0)
    yield
