"""Fixtures and marks that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("flowprep.testing.engines", "trainer.testing.models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for the real data as `real`."""
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository. Without it, the test is skipped."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
