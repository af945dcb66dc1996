"""Memory of a process: reuse of freed memory, and peak usage."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import torch

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let malloc reuse large blocks instead of returning them to the system; returns whether it could be set (glibc).

    Every step of a training allocates the same activations. By default they are in new pages each time, which the
    kernel must clear first: a quarter of the time of a step of a small network, a twentieth of a detection. With this
    setting the process keeps its peak size.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)


def reset_peak_memory(device: torch.device) -> None:
    """Restart the measurement of `peak_memory`, on CUDA and Linux; elsewhere do nothing."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """Return the peak memory in bytes, of tensors on a GPU, else of the process; None if it is not reported."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
