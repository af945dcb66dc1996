"""Settings of all tests: the files with slow tests, which run first, and the golden results of the metric."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.golden_weights import GOLDEN

# Files, or folders of files, whose tests train, export or start processes. They run first: while the last one runs,
# the other process of the test run is idle. `make quick` leaves them out.
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
    """Mark the tests of slow files, and run them first."""
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW))  # stable


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the golden labels, predictions and lists; returns a folder with gt/ and pred/."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(GOLDEN / "g_tree.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "g_tree"


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Read the results of both published tools for the golden tree."""
    return json.loads((GOLDEN / "g_metric.json").read_text())
