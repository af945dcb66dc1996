"""Runs the command line: `clrernetlm COMMAND ...`."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from clrernetlm.cli.exit_codes import exit_code_of, say
from clrernetlm.core.version import PACKAGE_FOLDER

__all__ = ["entry_point", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0: done; 1: the command ran and found problems (`check-data`); 2: bad arguments or input, with one line
    `error: ...` on standard error; 130: interrupted; 143: ended by SIGTERM. Warnings of this package are lines
    `clrernetlm: warning: ...`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    wait_without_spinning()

    def command() -> int:
        # Imported here, so that Ctrl-C during the imports is handled, too.
        from clrernetlm.cli.arguments import run

        with plain_warnings():
            return run(arguments)

    return exit_code_of(command)


def wait_without_spinning() -> None:
    """Let PyTorch's threads sleep while they wait for each other, unless an environment variable sets how they wait.

    PyTorch reads the variable when it is loaded. Spinning threads take the cores from working ones: on two cores beside
    another busy process, a frame took up to ten times as long. `benchmarks/waiting.py` measures it.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def entry_point() -> None:
    """Run the command of `sys.argv` as the whole process."""
    code = main()
    # While the interpreter shuts down, Ctrl-C would only print a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(code)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print warnings of this package as one line, without file and line number; other warnings as usual."""
    package = str(PACKAGE_FOLDER) + os.sep
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_plainly(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if category is UserWarning and filename.startswith(package):
                say(f"clrernetlm: warning: {' '.join(str(message).split())}")
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = show_plainly
        yield
