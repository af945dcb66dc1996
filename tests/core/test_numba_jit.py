"""Compiled kernels are cached outside the source tree, or not at all."""

from __future__ import annotations

import re
import resource
import signal
from importlib import import_module
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher

import clrernetlm
from clrernetlm.core.numba_jit import kernel, kernel_folder


def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture(autouse=True)
def fresh_folder() -> None:
    kernel_folder.cache_clear()
    yield
    kernel_folder.cache_clear()


def test_no_kernel_is_kept_beside_the_sources() -> None:
    package = Path(clrernetlm.__file__).parent
    sources = [path for path in package.rglob("*.py") if b"\n@kernel" in path.read_bytes()]
    modules = [import_module(".".join(path.relative_to(package.parent).with_suffix("").parts)) for path in sources]
    kernels = [value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)]
    assert len(modules) >= 8
    assert len(kernels) > 20
    assert not [value.py_func for value in kernels if package in Path(value.stats.cache_path).parents]


def test_every_kernel_is_compiled_by_the_same_decorator() -> None:
    package = Path(clrernetlm.__file__).parent
    numbas = re.compile(r"\b(njit|vectorize|numba\.jit)\b")
    assert {path.name for path in package.rglob("*.py") if numbas.search(path.read_text())} == {"numba_jit.py"}


def test_kernels_are_cached_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernel(add)(2, 3) == 5
    assert list((tmp_path / "clrernetlm").rglob("*.nbc"))
    assert kernel(fastmath=True)(add)(2, 3) == 5


def test_kernels_run_without_a_writable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kernel_folder() is None
    assert kernel(add)(2, 3) == 5


def test_a_folder_that_others_can_fill_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    folder = kernel_folder()
    assert folder is not None
    assert folder.stat().st_mode & 0o077 == 0
    for open_to_all in (folder, tmp_path / "shared"):  # kernels in it, or replace it by another folder
        before = open_to_all.stat().st_mode
        open_to_all.chmod(0o777)
        kernel_folder.cache_clear()
        assert kernel_folder() is None
        open_to_all.chmod(before)
    (tmp_path / "shared").chmod(0o1777)  # as /tmp is: only owners replace their files
    kernel_folder.cache_clear()
    assert kernel_folder() == folder


@pytest.mark.parametrize("damage", ["nothing", "cut short", "overwritten"])
def test_damaged_cached_kernels_are_compiled_again_and_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernel(add)(2, 3) == 5
    for path in tmp_path.rglob("*.nb?"):
        content = path.read_bytes()
        path.write_bytes({"nothing": b"", "cut short": content[: len(content) // 2], "overwritten": b"x" * 99}[damage])
    assert kernel(add)(2, 3) == 5
    again = kernel(add)
    assert again(2, 3) == 5
    assert sum(again.stats.cache_hits.values()) == 1


def test_a_full_disk_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # the system now refuses larger files
    try:
        assert kernel(add)(2, 3) == 5
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.rglob("*.nb?*"))
