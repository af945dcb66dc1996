"""Evaluate a trained CLRerNet: `python tools/test.py CONFIG ...` is `clrernetlm test CONFIG ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works from a checkout that is not installed

from clrernetlm.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["test", *sys.argv[1:]]))
