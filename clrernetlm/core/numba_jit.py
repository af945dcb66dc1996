"""How number-crunching kernels are compiled: on first use, and kept between runs outside the source tree."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.files import cache_folder
from clrernetlm.core.notices import tell_once
from clrernetlm.core.version import PACKAGE_FOLDER

# Argument types of kernels; numba finds them out by itself, they are there for readers.
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ints32 = NDArray[np.int32]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


@lru_cache(maxsize=1)
def kernel_folder() -> Path | None:
    """Where compiled kernels are kept: `kernels-<hash of the sources>` in the cache folder; None: nowhere.

    Kernels are code: a folder that others could have filled is not used. Numba notices a change in a kernel's own file
    only, not in the kernels it calls; the hash covers all of them.
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
    """Whether only this user (and root) can have put files into a folder, or put another folder in its place.

    Group members may write where the group may: many systems give every user a group of their own.
    """
    if not hasattr(os, "getuid"):  # Windows
        return True
    own = os.getuid()
    if folder.stat().st_uid != own or folder.stat().st_mode & stat.S_IWOTH:
        return False
    above = (parent.stat() for parent in folder.resolve().parents)
    return all(s.st_uid in (0, own) and (not s.st_mode & stat.S_IWOTH or s.st_mode & stat.S_ISVTX) for s in above)


def kernel(function: Callable[..., Any] | None = None, *, fastmath: bool = False) -> Any:
    """Decorator: compile `function` with numba at its first call.

    As it stands, every bit is as written; `fastmath` allows to reorder and contract operations, for pictures. A
    division by zero gives infinity or NaN as in numpy.
    """
    if function is None:
        return partial(kernel, fastmath=fastmath)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    config: Any = numba.config
    chosen = config.CACHE_DIR  # set by NUMBA_CACHE_DIR: the user's choice wins
    folder = kernel_folder()
    if not chosen and folder is None:
        return numba.njit(**options)(function)
    try:
        # Numba picks the place when it decorates, and would otherwise write beside the source file.
        config.CACHE_DIR = chosen or str(folder)
        compiled = numba.njit(cache=True, **options)(function)
    except (OSError, RuntimeError):  # it tries to write there
        return numba.njit(**options)(function)
    finally:
        config.CACHE_DIR = chosen
    compiled._cache = _SpareCache(compiled._cache)
    return compiled


class _SpareCache:
    """Numba's store of compiled kernels, with which a full disk or a damaged file costs time instead of an error.

    A kernel that cannot be read is compiled anew, one that cannot be kept is compiled again by the next process.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        """Read a kernel; None if it is not there, or not whole."""
        try:
            found = self._cache.load_overload(*arguments)
        except Exception:  # whatever bytes can make an unpickler raise
            found = None
        if found is None:
            tell_once("compiling for this processor, which takes some seconds the first time")
        return found

    def save_overload(self, *arguments: Any) -> None:
        """Keep a kernel; a damaged index, which every later kernel of that name would trip over, is begun anew."""
        try:
            self._cache.save_overload(*arguments)
        except OSError:
            return
        except Exception:
            with suppress(OSError):
                self._cache.flush()
                self._cache.save_overload(*arguments)
