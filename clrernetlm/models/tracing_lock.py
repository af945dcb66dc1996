"""Lets threads and forked processes use PyTorch together: networks run side by side, tracing happens alone.

Exporting and torch.compile trace a network with torch.fx, which replaces `nn.Module.__call__` for the whole process
while it does: a network that another thread runs or builds at that moment fails. Networks run inside `running`, and
whatever traces does it inside `tracing`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class SharedUse:
    """Many users at a time, or one that is alone. A thread may enter again what it holds, but not trace while it runs.

    Whoever waits to be alone goes before users that come later.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._waiting = 0
        self._alone: int | None = None  # the thread that is
        self._held = threading.local()  # how often this thread has entered

    @contextmanager
    def running(self) -> Iterator[None]:
        """Use networks beside other threads; waits while one is alone."""
        own, depth = threading.get_ident(), getattr(self._held, "depth", 0)
        counts = not depth and self._alone != own
        if counts:
            with self._changed:
                self._changed.wait_for(lambda: self._alone is None and not self._waiting)
                self._users += 1
        self._held.depth = depth + 1
        try:
            yield
        finally:
            self._held.depth = depth
            if counts:
                with self._changed:
                    self._users -= 1
                    self._changed.notify_all()

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Be the only one; waits until nobody runs a network."""
        own = threading.get_ident()
        if self._alone == own:
            yield
            return
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._alone is None and not self._users)
                self._alone = own
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            with self._changed:
                self._alone = None
                self._changed.notify_all()


_use = SharedUse()
_has_run = False


@contextmanager
def running() -> Iterator[None]:
    """Build or run networks beside other threads that do; see `SharedUse.running`."""
    global _has_run
    _has_run = True
    with _use.running():
        yield


@contextmanager
def tracing() -> Iterator[None]:
    """Trace or compile a network while no other thread runs one; see `SharedUse.tracing`."""
    with _use.tracing():
        yield


def _after_fork() -> None:
    """Make PyTorch usable in a forked child: none of the threads that held something or computed lives there."""
    global _use
    _use = SharedUse()
    if _has_run:  # the child would wait for ever for the OpenMP threads that its parent has started
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
