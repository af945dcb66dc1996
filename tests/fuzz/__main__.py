"""Run inputs and print a JSON line for each: `python -m tests.fuzz --kind labels --index 7 --seed 0`.

`--inputs N` runs inputs 0 to N - 1 of every kind named, `--cases` its hand-made cases, `--share 0/2` every second.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections import Counter
from itertools import cycle
from pathlib import Path

WEIGHTS = {"api": 3, "commands": 2}  # weight of a kind, 1 for others: these have the most combinations
MOST = {"processes": 60}  # largest number of inputs of a kind: each takes seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", nargs="*", default=[], help="kinds of input; default: all")
    parser.add_argument("--index", type=int, help="one input alone")
    parser.add_argument("--case", help="one hand-made case alone")
    parser.add_argument("--cases", action="store_true", help="all hand-made cases")
    parser.add_argument("--short", action="store_true", help="the hand-made cases that take no second")
    parser.add_argument("--inputs", type=int, default=0, help="damaged inputs of every kind")
    parser.add_argument("--total", type=int, help="so many inputs in all: the cases, then as many of every kind as fit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0, help="longer is a hang")
    parser.add_argument("--share", default="0/1", help="which of how many processes this is")
    parser.add_argument("--kept", type=Path, help="folder for faulty inputs; default: a new one")
    arguments = parser.parse_args()
    # Threads do not survive a fork, and results should not depend on how many there are.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    warnings.simplefilter("ignore")

    import cv2

    from tests.fuzz.cases import CASES, is_slow
    from tests.fuzz.kinds import KINDS
    from tests.fuzz.watching import Input, Watcher

    cv2.setNumThreads(1)
    kinds = arguments.kind or list(KINDS)
    inputs = []
    for kind in kinds:
        if arguments.case is not None:
            inputs.append(Input(kind, case=arguments.case))
        if arguments.index is not None:
            inputs.append(Input(kind, arguments.index, arguments.seed))
        if arguments.short:
            inputs += [Input(kind, case=name) for name in CASES[kind] if not is_slow(kind, name)]
        if arguments.cases:
            inputs += [Input(kind, case=name) for name in CASES[kind]]
        inputs += [Input(kind, index, arguments.seed) for index in range(arguments.inputs)]
    left = (arguments.total or 0) - len(inputs)
    places = [kind for kind in kinds for _ in range(WEIGHTS.get(kind, 1))]
    given: Counter[str] = Counter()
    for kind in cycle(places) if set(places) - set(MOST) else places * max(MOST.values()):
        if left <= 0:
            break
        if given[kind] < MOST.get(kind, left + given[kind]):
            inputs.append(Input(kind, given[kind], arguments.seed))
            given[kind] += 1
            left -= 1
    share, shares = map(int, arguments.share.split("/"))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
        kept = arguments.kept or Path(tempfile.mkdtemp(prefix="fuzz-faults-"))
        for result in Watcher(Path(root), kept, arguments.seconds).run(inputs[share::shares]):
            print(result.to_json(), flush=True)


if __name__ == "__main__":
    main()
