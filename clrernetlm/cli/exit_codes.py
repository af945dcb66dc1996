"""How a command ends: its exit code, one line on standard error, and nothing left behind."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from clrernetlm.core.errors import reason_of

# Signals that ask a process to end. Python turns Ctrl-C into an exception; these would end it on the spot instead.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """Raised in a command that is asked to end by SIGTERM or SIGHUP: handled wherever Ctrl-C is."""


def exit_code_of(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code: its own, or 2, 130 or 143 with one line on standard error.

    2: a UserError, a file that the system does not read or write, too little memory, a standard output that takes no
    text. 130: Ctrl-C. 143: SIGTERM (129: SIGHUP), after everything was cleaned up as after Ctrl-C. An error of the
    program itself comes out as an exception.
    """
    open_standard_streams()
    with watched_output() as output, signals_as_exceptions() as received:
        code = 0
        try:
            try:
                code = command() or 0
            finally:
                sys.stdout.flush()
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
        except (SystemExit, Exception) as error:  # SystemExit: of --help and of argparse
            # Compilers whose callback has swallowed a signal fail soon after, in words of their own.
            reason = reason_of(error) if output.failure is None and not received else None
            if reason is None and output.failure is None and not received:
                raise
            if reason is not None:
                say(f"error: {' '.join(reason.split())}")
                return 2
        if isinstance(output.failure, BrokenPipeError):  # the reader (`| head`) has left
            return 0
        if output.failure is not None:
            say(f"error: standard output: cannot be written ({output.failure.strerror}); check where it goes")
            return 2
        ended_by = [number for number in received if number != signal.SIGINT]
        if ended_by:
            code = 128 + ended_by[0]
        elif received:  # Ctrl-C that a library's callback swallowed
            code = 128 + signal.SIGINT
        if code > 128:
            say("interrupted" if code == 128 + signal.SIGINT else "terminated")
    return code


def say(text: str) -> None:
    """Print a line on standard error, where that takes it."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def open_standard_streams() -> None:
    """Give standard input, output and error something to be where they are closed.

    Without, the next file to be opened would get the number of a closed one, and with it what libraries print. What is
    written to a closed standard output is an error, as for other programs; a closed standard error swallows it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            writable = name == "stderr" or (name == "stdout" and os.name == "nt")  # a program without a console there
            opened = os.open(os.devnull, os.O_WRONLY if writable else os.O_RDONLY)
            if opened != number and os.name != "nt":
                os.dup2(opened, number)
                os.close(opened)
                opened = number
            stream = open(opened, "r" if name == "stdin" else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


class WatchedOutput(io.TextIOWrapper):
    """A standard output that remembers the first error of writing to it."""

    failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write as any text stream."""
        with self._remembered():
            return super().write(text)

    def flush(self) -> None:
        """Flush as any text stream."""
        with self._remembered():
            super().flush()

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            raise


@contextmanager
def watched_output() -> Iterator[WatchedOutput]:
    """Put a `WatchedOutput` in the place of the standard output for the block, where that is the process's own."""
    own = sys.stdout
    if own is not sys.__stdout__ or not isinstance(own, io.TextIOWrapper):
        yield WatchedOutput(io.BytesIO())  # somebody collects what is printed
        return
    with suppress(OSError):
        own.flush()
    watched = WatchedOutput(own.buffer, own.encoding, own.errors, line_buffering=own.line_buffering)
    sys.stdout = watched
    try:
        yield watched
    finally:
        sys.stdout = own
        if watched.failure is not None:
            # What could not be written would fail once more when the interpreter ends.
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, own.fileno())
                os.close(nowhere)
        with suppress(OSError, ValueError):
            watched.detach()


@contextmanager
def signals_as_exceptions() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP raise `Terminated` in the block, and lose no Ctrl-C; gives the list of what has come.

    Where Python cannot hand on an exception, in callbacks of libraries such as the compiler's, it prints and forgets
    it. Here the signal then comes once more. In the list are signals of `ENDING`, and such a Ctrl-C.
    """
    received: list[int] = []
    ended: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise Terminated

    def once_more(number: int) -> None:
        if not ended:
            os.kill(os.getpid(), number)

    def again(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt):
            hook(unraisable)
            return
        number = received[-1] if isinstance(error, Terminated) and received else signal.SIGINT
        received.append(number)
        timer = threading.Timer(0.05, once_more, (number,))
        timer.daemon = True
        timer.start()

    hook = sys.unraisablehook
    handlers = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in handlers.items():
        if handler == signal.SIG_DFL:  # not where somebody wants it ignored (nohup), or has an answer of their own
            signal.signal(number, end)
    sys.unraisablehook = again
    try:
        yield received
    finally:
        ended.append(True)
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            if handler == signal.SIG_DFL:
                signal.signal(number, handler)
