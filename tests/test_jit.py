"""Compiled kernels are kept outside the source tree, or nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from clrernetlm import evaluation
from clrernetlm.evaluation import lane_ious
from clrernetlm.jit import cache_folder, kernel


def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture(autouse=True)
def fresh_folder() -> None:
    cache_folder.cache_clear()
    yield
    cache_folder.cache_clear()


def test_nothing_is_written_beside_the_sources() -> None:
    lane_ious([[[1.0, 2.0], [3.0, 4.0]]], [])
    package = Path(evaluation.__file__).parent
    assert not [path for path in package.rglob("*") if path.suffix in {".nbi", ".nbc"}]


def test_the_users_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernel(add)(2, 3) == 5
    assert list((tmp_path / "clrernetlm").rglob("*.nbc"))


def test_works_without_a_place_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() is None
    assert kernel(add)(2, 3) == 5
