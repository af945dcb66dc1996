"""Ends commands properly: with an exit code, one line on standard error, and all temporary files removed."""

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

# Signals that end a process at once, unlike Ctrl-C, which Python turns into an exception.
ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """Raised in a command on SIGTERM or SIGHUP; handled wherever Ctrl-C is."""


def exit_code_of(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code: its own, or 2, 130 or 143 with one line on standard error.

    2: a UserError, a file that cannot be read or written, too little memory, a standard output that cannot be written.
    130: Ctrl-C. 143: SIGTERM (129: SIGHUP), after the same cleaning up as on Ctrl-C. Any other error is a fault of the
    program and remains an exception.
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
            # A compiler whose callback has swallowed a signal soon fails with an unrelated error.
            reason = reason_of(error) if output.failure is None and not received else None
            if reason is None and output.failure is None and not received:
                raise
            if reason is not None:
                say(f"error: {' '.join(reason.split())}")
                return 2
        if isinstance(output.failure, BrokenPipeError):  # the reader of the pipe (`| head`) has ended
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
    """Print a line on standard error; errors of writing it are ignored."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def open_standard_streams() -> None:
    """Open the null device for standard input, output and error if they are closed.

    Otherwise the next file to be opened would get the descriptor of a closed stream, and with it the output of
    libraries. Writing to a closed standard output remains an error, as in other programs; output to a closed standard
    error is discarded.
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
    """A standard output that keeps the first error of writing to it in `failure`."""

    failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write text, like any text stream."""
        with self._recording_failure():
            return super().write(text)

    def flush(self) -> None:
        """Flush, like any text stream."""
        with self._recording_failure():
            super().flush()

    @contextmanager
    def _recording_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            raise


@contextmanager
def watched_output() -> Iterator[WatchedOutput]:
    """Replace the standard output by a `WatchedOutput` in the block, unless it has been redirected inside Python."""
    own = sys.stdout
    if own is not sys.__stdout__ or not isinstance(own, io.TextIOWrapper):
        yield WatchedOutput(io.BytesIO())  # redirected, for example to collect the output
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
            # Flushing the unwritten text at the interpreter's exit would fail again.
            with suppress(OSError, ValueError):
                null_device = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null_device, own.fileno())
                os.close(null_device)
        with suppress(OSError, ValueError):
            watched.detach()


@contextmanager
def signals_as_exceptions() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP raise `Terminated` in the block, and lose no Ctrl-C; yields the list of received signals.

    In callbacks of libraries, such as a compiler's, Python cannot propagate an exception: it prints and discards it.
    Here the signal is then sent again. The list contains signals of `ENDING_SIGNALS`, and such a Ctrl-C.
    """
    received: list[int] = []
    block_ended: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise Terminated

    def send_again(number: int) -> None:
        if not block_ended:
            os.kill(os.getpid(), number)

    def on_unraisable(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt):
            hook(unraisable)
            return
        number = received[-1] if isinstance(error, Terminated) and received else signal.SIGINT
        received.append(number)
        timer = threading.Timer(0.05, send_again, (number,))
        timer.daemon = True
        timer.start()

    hook = sys.unraisablehook
    handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    for number, handler in handlers.items():
        if handler == signal.SIG_DFL:  # keeps ignored signals (nohup) and handlers of the caller
            signal.signal(number, end)
    sys.unraisablehook = on_unraisable
    try:
        yield received
    finally:
        block_ended.append(True)
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            if handler == signal.SIG_DFL:
                signal.signal(number, handler)
