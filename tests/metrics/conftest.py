"""The golden tree: labels, predictions, lists and what both published tools make of them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.golden_weights import GOLDEN


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with gt/ and pred/."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(GOLDEN / "g_tree.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "g_tree"


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    return json.loads((GOLDEN / "g_metric.json").read_text())
