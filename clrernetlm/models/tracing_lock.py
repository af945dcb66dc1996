"""Lock for PyTorch in several threads and forked processes: networks run in parallel, tracing is exclusive.

Exporting and torch.compile trace a network with torch.fx, which meanwhile replaces `nn.Module.__call__` for the whole
process: a network that another thread runs or builds at that moment fails. Code that runs networks is put inside
`running`, code that traces inside `tracing`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class TracingLock:
    """A readers-writer lock: any number of threads run networks, or one thread traces.

    Reentrant, but a thread that runs a network cannot start to trace. Threads that wait to trace go before those that
    come later to run.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._runners = 0  # threads that run networks
        self._waiting = 0  # threads that wait to trace
        self._tracer: int | None = None  # identifier of the thread that traces
        self._held = threading.local()  # how often this thread has entered `running`

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run networks in parallel with other threads; waits while a thread traces."""
        own, depth = threading.get_ident(), getattr(self._held, "depth", 0)
        outermost = not depth and self._tracer != own
        if outermost:
            with self._changed:
                self._changed.wait_for(lambda: self._tracer is None and not self._waiting)
                self._runners += 1
        self._held.depth = depth + 1
        try:
            yield
        finally:
            self._held.depth = depth
            if outermost:
                with self._changed:
                    self._runners -= 1
                    self._changed.notify_all()

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Trace exclusively; waits until no other thread runs or traces a network."""
        own = threading.get_ident()
        if self._tracer == own:
            yield
            return
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._tracer is None and not self._runners)
                self._tracer = own
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            with self._changed:
                self._tracer = None
                self._changed.notify_all()


_lock = TracingLock()
_has_run = False  # whether this process has run a network


@contextmanager
def running() -> Iterator[None]:
    """Build or run networks in parallel with other threads; see `TracingLock.running`."""
    global _has_run
    _has_run = True
    with _lock.running():
        yield


@contextmanager
def tracing() -> Iterator[None]:
    """Trace or compile a network while no other thread runs one; see `TracingLock.tracing`."""
    with _lock.tracing():
        yield


def _after_fork() -> None:
    """Make PyTorch usable in a forked child, in which the threads that held the lock or computed do not exist."""
    global _lock
    _lock = TracingLock()
    if _has_run:  # the child would wait for ever for the OpenMP threads that its parent has started
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
