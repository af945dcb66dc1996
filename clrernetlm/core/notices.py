"""Prints notices about slow steps to standard error, each once."""

from __future__ import annotations

import multiprocessing
import sys
from contextlib import suppress

_printed: set[str] = set()


def print_once(message: str) -> None:
    """Print `clrernetlm: message` to standard error, unless this process has done so; worker processes are silent."""
    if message in _printed or multiprocessing.parent_process() is not None:
        return
    _printed.add(message)
    with suppress(OSError, ValueError, AttributeError):  # closed, full or absent
        print(f"clrernetlm: {message}", file=sys.stderr, flush=True)
