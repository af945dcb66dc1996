"""Time comparisons that hold on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def cpu_time_ratio(call: Callable[[], object], plain: Callable[[], object], rounds: int = 3) -> float:
    """Return the CPU time of `call` divided by that of `plain`.

    They run in turns, and the fastest of `rounds` counts: a busy machine slows both.
    """
    seconds: dict[Callable[[], object], list[float]] = {call: [], plain: []}
    for _ in range(rounds):
        for each, times in seconds.items():
            start = time.process_time()
            each()
            times.append(time.process_time() - start)
    return min(seconds[call]) / min(seconds[plain])
