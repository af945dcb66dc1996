"""What holds for all tests."""

from __future__ import annotations

import pytest

SLOW = ("tests/training/", "tests/distributed/", "tests/deploy/")  # where the files are that take longest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow files: whichever comes last, one process waits while the other works on it."""
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW))  # stable
