"""Helpers of the benchmarks: timing functions in turns, the name of the machine, options of PyTorch."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

EXTENSIONS = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
)


def seconds_in_turns(
    functions: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Measure the seconds of each function in every round; they run in turns, so that a busy machine slows all alike.

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
    """Measure the median seconds of each function, run in turns."""
    return [statistics.median(taken) for taken in seconds_in_turns(functions, rounds, clock)]


def cpu_facts() -> dict[str, str]:
    """Read the fields of /proc/cpuinfo of the first core; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}


def machine() -> str:
    """Describe the processor: its name with family and model number, which tell generations apart."""
    facts = cpu_facts()
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    return f"{facts['model name']}, family {facts.get('cpu family', '?')}, model {facts.get('model', '?')}"


def extensions() -> str:
    """List the processor's instruction sets that speed up neural networks, and those that it lacks."""
    flags = set(cpu_facts().get("flags", "").split())
    if not flags:
        return "unknown"
    has, lacks = ([name for name in EXTENSIONS if (name in flags) == present] for present in (True, False))
    return f"{', '.join(has) or 'none'}; without {', '.join(lacks) or 'exception'}"


def positive(text: str) -> int:
    """Parse a number of 1 or more from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def torch_options(description: str, rounds: int) -> argparse.Namespace:
    """Parse `--threads` and `--rounds`, and set PyTorch to that many threads."""
    import torch

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=positive, default=rounds)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def torch_setting(options: argparse.Namespace) -> str:
    """Describe machine, threads and PyTorch's version, for the first line of output."""
    import torch

    return f"{machine()}, {options.threads} threads, torch {torch.__version__}"
