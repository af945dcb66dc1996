"""The command line: `clrernetlm COMMAND ...`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import clrernetlm
from clrernetlm.errors import UserError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0: done; 1: the command ran and found problems (`check-data`); 2: bad arguments or input, with one line
    `error: ...` on standard error; 130: interrupted. Warnings of this package are lines `clrernetlm: warning: ...`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["train"], ["demo"]):
        # Threads that wait by spinning take the core from those that work: training next to one other busy process was
        # 20 times slower on two cores. A network alone is a tenth faster with spinning. Read when PyTorch loads.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Imported here, inside the reach of the handlers below: Ctrl-C may arrive while the imports run.
    try:
        from clrernetlm.cli.arguments import run

        with plain_warnings():
            code = run(words)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has left; point stdout elsewhere so that the interpreter's last flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print what this package warns of as one line, without the place in its source; other warnings as always."""
    package = str(Path(clrernetlm.__file__).parent) + os.sep
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
                print(f"clrernetlm: warning: {' '.join(str(message).split())}", file=sys.stderr)
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = show_plainly
        yield
