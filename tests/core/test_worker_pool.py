"""Worker processes: results are in order, and killed processes leave neither hangs nor other processes."""

import itertools
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import process_is_alive
from clrernetlm.core.worker_pool import available_cores, map_in_processes, worker_count

PATIENCE = 60  # seconds allowed on a busy machine for steps that take a fraction of one
STARTS = ("fork", "spawn")


def square(number):
    return number * number


def die(number, at=3):
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number):
    raise UserError(f"item {number}: refused")


def process_of(number):
    return os.getpid()


@pytest.mark.parametrize("start", STARTS)
def test_results_come_in_the_order_of_the_items(start):
    numbers = range(50)
    assert list(map_in_processes(square, numbers, 2, chunk=3, start=start)) == [n * n for n in numbers]


def test_items_are_read_only_as_results_are_used():
    taken = []

    def numbers():
        for number in itertools.count():
            taken.append(number)
            yield number

    results = map_in_processes(square, numbers(), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    results.close()
    assert len(taken) < 20


@pytest.mark.parametrize("start", STARTS)
def test_a_killed_worker_is_a_one_line_error(start):
    with pytest.raises(UserError, match="workers: a worker process was killed, often because memory ran out; use few"):
        list(map_in_processes(die, range(40), 2, start=start))


def test_an_error_of_a_worker_is_raised():
    with pytest.raises(UserError, match="item 0: refused"):
        list(map_in_processes(refuse, range(9), 2))


@pytest.mark.parametrize("spare", range(1, 12))
def test_too_few_file_descriptors_are_a_one_line_error(spare):
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))
    try:
        result = list(map_in_processes(square, range(9), 2))
    except UserError as error:
        assert "worker processes cannot be started (Too many open files); use 1" in str(error)  # noqa: PT017
    else:
        assert result == [n * n for n in range(9)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_forked_workers_do_not_wait_for_threads_of_opencv():
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        cv2.GaussianBlur(noise, (31, 31), 0)  # starts them
        assert list(map_in_processes(square, range(4), 2)) == [0, 1, 4, 9]
    finally:
        cv2.setNumThreads(before)


def test_the_number_of_workers_is_bounded():
    assert worker_count(3) == 3
    assert worker_count(0) == available_cores() >= 1
    for wrong in ("x", 1.5, None):
        with pytest.raises(UserError, match=r"^workers: .* is not a number of processes"):
            worker_count(wrong)
    with pytest.raises(UserError, match="workers: -1 is not a number of processes"):
        worker_count(-1)
    for absurd in (100_000_000, 10**5000):
        with pytest.raises(UserError, match=r"^workers: .* is not a number of processes; use 1 to 1024, or 0 for one"):
            worker_count(absurd)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_the_process_that_started_it(start, ending):
    script = f"""
        import itertools
        from clrernetlm.core.worker_pool import map_in_processes
        from tests.core.test_worker_pool import process_of
        for process in map_in_processes(process_of, itertools.count(), 2, start={start!r}):
            print(process, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        workers = {int(line) for line in itertools.islice(parent.stdout, 40)}
        parent.send_signal(ending)
        _, errors = parent.communicate(timeout=PATIENCE)
    assert parent.returncode == -ending
    assert errors.count("Traceback") == (ending == signal.SIGINT)  # of the process itself
    wait_until(lambda: not any(process_is_alive(worker) for worker in workers))


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_workers_start_while_opencv_has_threads() -> None:
    """Forked workers have no such threads, and would wait for them for ever."""
    image = np.zeros((1500, 2000, 3), np.uint8)
    for _ in range(8):
        cv2.GaussianBlur(image, (0, 0), 3)
        threads = cv2.getNumThreads()
        assert list(map_in_processes(abs, [-1, 2, 3], 2)) == [1, 2, 3]
        assert cv2.getNumThreads() == threads
