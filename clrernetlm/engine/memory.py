"""Memory of a training on the CPU: what was freed is kept for the next step."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let malloc reuse large blocks instead of returning them to the system; True where that can be set (glibc).

    Every step of a training allocates the same activations. By default they come from fresh pages each time, which the
    kernel must clear first: a quarter of the time of a step of a small network. The process then keeps its peak size.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
