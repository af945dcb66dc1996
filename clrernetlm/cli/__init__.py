"""The command line: `clrernetlm COMMAND ...`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from clrernetlm.errors import UserError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0: done; 1: the command ran and found problems (`check-data`); 2: bad arguments or input, with one line
    `error: ...` on standard error; 130: interrupted.
    """
    # Threads that wait by spinning take the core from those that work: training next to one other busy process was 20
    # times slower on two cores. Read once, when PyTorch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Imported here, inside the reach of the handlers below: Ctrl-C may arrive while the imports run.
    try:
        from clrernetlm.cli.arguments import run

        code = run(list(sys.argv[1:] if argv is None else argv))
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
