"""What holds for all tests: which files are slow, and that those begin first."""

from __future__ import annotations

import pytest

# Files, or folders of files, whose tests train, export or start processes. They begin first: whichever comes last, one
# process of the test run waits while the other works on it. `make quick` leaves them out.
SLOW = (
    "tests/training/",
    "tests/distributed/",
    "tests/deploy/",
    "tests/tools/",
    "tests/benchmarks/test_kills.py",
    "tests/cli/test_main.py",
    "tests/cli/test_wheel.py",
    "tests/evaluation/test_score_lanelm.py",
    "tests/fuzz/",
    "tests/inference/test_detect_images.py",
    "tests/inference/test_detect_video.py",
    "tests/inference/test_predictor_sharing.py",
    "tests/models/lanelm/test_overfit.py",
    "tests/synth/test_dataset.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files, and begin with them."""
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW))  # stable
