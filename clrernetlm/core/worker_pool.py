"""Worker processes: maps a function over items on all cores; no process is left behind however the map ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import connection
from multiprocessing.connection import Connection
from numbers import Integral
from typing import Literal, TypeVar

import cv2

from clrernetlm.core.argument_checks import short_repr
from clrernetlm.core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 1024  # starting more takes minutes and all memory
CHUNKS_PER_WORKER = 4  # chunks of items per worker that are in flight at any time


def available_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(wanted: int) -> int:
    """Count the worker processes for the argument `workers`: 0 means one per core.

    Raises UserError below 0 and above MAX_WORKERS.
    """
    if not isinstance(wanted, Integral) or not 0 <= wanted <= MAX_WORKERS:
        raise UserError(
            f"workers: {short_repr(wanted)} is not a number of processes; use 1 to {MAX_WORKERS}, or 0 for one per core"
        )
    return int(wanted) or available_cores()


def map_in_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    chunk: int = 1,
    start: Literal["fork", "spawn"] = "fork",
) -> Iterator[Result]:
    """Apply `function` to every item in `workers` processes; yields the results in the order of the items.

    `function`, items and results are pickled, `chunk` items at a time. Items are consumed as results are used, so that
    an endless iterator of items needs no more memory than a short one. With `start` "fork", on Linux, workers start
    immediately, with everything that this process has compiled and loaded, and the caller needs no
    `if __name__ == "__main__"`; "spawn" starts new interpreters.

    The workers end when this process ends in any way, SIGKILL included, and when the iteration is abandoned; each
    completes its current chunk, except after SIGKILL. Ctrl-C interrupts this process only. Raises UserError if the
    processes cannot be started, or if one is killed, which the system does when memory runs out.
    """
    forked = start == "fork" and sys.platform == "linux"  # the system libraries of others do not survive a fork
    context = multiprocessing.get_context("fork" if forked else "spawn")
    pending: deque[Future[list[Result]]] = deque()
    chunks = _chunks(items, chunk)
    lifeline: tuple[Connection, ...] = ()
    pool = None
    try:
        with _start_errors(workers):
            lifeline = context.Pipe(duplex=False)
            pool = ProcessPoolExecutor(workers, context, _initialise_worker, (lifeline if forked else lifeline[:1],))
        for batch in chunks:
            with (
                _start_errors(workers),
                _signals_blocked(),
                _single_threaded_opencv(),
            ):  # the first calls start the processes
                pending.append(pool.submit(_apply, function, batch))
            if len(pending) >= CHUNKS_PER_WORKER * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool:
        raise UserError("workers: a worker process was killed, often because memory ran out; use fewer") from None
    finally:
        if pool is not None:
            with suppress(RuntimeError):  # its own thread could not be started
                pool.shutdown(cancel_futures=True)
        for end in lifeline:  # ends workers that did start, if starting failed half-way
            end.close()


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _apply(function: Callable[[Item], Result], batch: list[Item]) -> list[Result]:
    return [function(item) for item in batch]


@contextmanager
def _start_errors(workers: int) -> Iterator[None]:
    """Convert errors from a lack of files, memory, threads or processes to a UserError."""
    try:
        yield
    except BrokenProcessPool:
        raise
    except (OSError, MemoryError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "out of memory"
        raise UserError(f"workers: {workers} worker processes cannot be started ({reason}); use 1") from None


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM inside the block, also in the processes that are started in it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    """Stop OpenCV's threads in the block: they do not exist in a forked process, which would wait for them for ever."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _initialise_worker(lifeline: tuple[Connection, ...]) -> None:
    """Set up a worker at its start: one thread, no reaction to Ctrl-C, and an end when the first process ends.

    `lifeline`: the reading end of a pipe that closes with the first process, then the writing end, if a fork copied it.
    """
    cv2.setNumThreads(0)  # with 1, a fork would wait for ever for OpenCV's threads of the first process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    for writing_end in lifeline[1:]:
        writing_end.close()
    end_with_parent(lifeline[0])


def end_with_parent(*lifeline: Connection) -> None:
    """End this worker process when the process that started it has ended, or when a pipe of `lifeline` is closed."""
    parent = multiprocessing.parent_process()
    if parent is None:  # no worker
        return
    sentinel = parent.sentinel

    def wait() -> None:
        connection.wait([*lifeline, sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
