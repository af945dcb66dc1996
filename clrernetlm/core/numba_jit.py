"""Compiles numeric kernels with numba on first use and caches them between runs, outside the source tree."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast, overload

import numba

from clrernetlm.core.files import cache_folder
from clrernetlm.core.notices import print_once
from clrernetlm.core.version import PACKAGE_FOLDER

P = ParamSpec("P")
R = TypeVar("R")


@lru_cache(maxsize=1)
def kernel_folder() -> Path | None:
    """Return the folder of compiled kernels, `kernels-<hash of the sources>` in the cache folder; None: not cached.

    Kernels are code: a folder that other users could have filled is not used. Numba detects a change in a kernel's own
    file only, not in the kernels that it calls; the hash covers all of them.
    """
    sources = [path.read_bytes() for path in sorted(PACKAGE_FOLDER.rglob("*.py"))]
    digest = hashlib.sha256(b"\0".join(text for text in sources if b"@kernel" in text)).hexdigest()[:12]
    folder = cache_folder() / f"kernels-{digest}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK) and is_private(folder)
    except OSError:
        return None
    return folder if usable else None


def is_private(folder: Path) -> bool:
    """Test whether only this user and root can have put files into a folder, or put another folder in its place.

    Write permission of the group is accepted: many systems give every user a group of their own.
    """
    if not hasattr(os, "getuid"):  # Windows
        return True
    own = os.getuid()
    if folder.stat().st_uid != own or folder.stat().st_mode & stat.S_IWOTH:
        return False
    above = (parent.stat() for parent in folder.resolve().parents)
    return all(s.st_uid in (0, own) and (not s.st_mode & stat.S_IWOTH or s.st_mode & stat.S_ISVTX) for s in above)


@overload
def kernel(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def kernel(*, fastmath: bool) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def kernel(function: Callable[..., Any] | None = None, /, *, fastmath: bool = False) -> Callable[..., Any]:
    """Decorate a function so that numba compiles it at its first call.

    Annotations of its arguments serve readers and mypy; numba derives the types from the values. Bit-exact by default;
    `fastmath` lets the compiler reorder and contract operations (used for rendering only). A division by zero gives
    infinity or NaN as in numpy.
    """
    if function is None:
        return lambda decorated: _compiled(decorated, fastmath)
    return _compiled(function, fastmath)


def _compiled(function: Callable[..., Any], fastmath: bool) -> Callable[..., Any]:
    """Return numba's dispatcher of `function`, cached in `kernel_folder` if there is one."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    config: Any = numba.config
    users_folder = config.CACHE_DIR  # set by NUMBA_CACHE_DIR: the user's choice wins
    folder = kernel_folder()
    if not users_folder and folder is None:
        return cast(Callable[..., Any], numba.njit(**options)(function))
    try:
        # Numba chooses the folder when it decorates, and would otherwise write beside the source file.
        config.CACHE_DIR = users_folder or str(folder)
        dispatcher: Any = numba.njit(cache=True, **options)(function)
    except (OSError, RuntimeError):  # the folder cannot be written
        return cast(Callable[..., Any], numba.njit(**options)(function))
    finally:
        config.CACHE_DIR = users_folder
    dispatcher._cache = _FaultTolerantCache(dispatcher._cache)
    return cast(Callable[..., Any], dispatcher)


class _FaultTolerantCache:
    """Wrap numba's cache of compiled kernels so that a full disk or a damaged file costs time instead of an error.

    A kernel that cannot be read is compiled anew; one that cannot be saved is compiled again by the next process.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        """Read a kernel; None if it is missing or incomplete."""
        try:
            found = self._cache.load_overload(*arguments)
        except Exception:  # damaged bytes can make an unpickler raise anything
            found = None
        if found is None:
            print_once("compiling for this processor, which takes some seconds the first time")
        return found

    def save_overload(self, *arguments: Any) -> None:
        """Save a kernel; a damaged index, on which every later kernel of that name would fail, is started anew."""
        try:
            self._cache.save_overload(*arguments)
        except OSError:
            return
        except Exception:
            with suppress(OSError):
                self._cache.flush()
                self._cache.save_overload(*arguments)
