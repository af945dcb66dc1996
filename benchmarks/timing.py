"""What the benchmarks share: functions timed in turns, the name of the machine, the options of PyTorch's."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence


def seconds_in_turns(
    functions: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Seconds of each function in every round; they take turns, so that a busy machine slows all of them alike.

    Each runs once before, untimed.
    """
    for function in functions:
        function()
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for taken, function in zip(seconds, functions, strict=True):
            start = clock()
            function()
            taken.append(clock() - start)
    return seconds


def medians_in_turns(
    functions: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Median seconds of each function."""
    return [statistics.median(taken) for taken in seconds_in_turns(functions, rounds, clock)]


def machine() -> str:
    """The processor, as far as Python knows it."""
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def torch_options(description: str, rounds: int) -> argparse.Namespace:
    """`--threads` and `--rounds` from the command line; PyTorch is set to that many threads."""
    import torch

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=rounds)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def torch_setting(options: argparse.Namespace) -> str:
    """Machine, threads and version, to print first."""
    import torch

    return f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}"
