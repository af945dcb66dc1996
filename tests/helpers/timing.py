"""Times that other work on the machine does not spoil."""

from __future__ import annotations

import time
from collections.abc import Callable


def cpu_time_ratio(call: Callable[[], object], plain: Callable[[], object], rounds: int = 3) -> float:
    """How many times the CPU seconds of `plain` a `call` takes.

    They run in turns, and the least of `rounds` counts: a busy machine slows both.
    """
    seconds: dict[Callable[[], object], list[float]] = {call: [], plain: []}
    for _ in range(rounds):
        for each, times in seconds.items():
            start = time.process_time()
            each()
            times.append(time.process_time() - start)
    return min(seconds[call]) / min(seconds[plain])
