"""Processes for tests that start fast: forks of a process that has loaded only the libraries."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from socket import socket

import torch

START = "forkserver"  # start method, also for other functions that start processes
LIBRARIES = ["cv2", "lightning.pytorch", "numba", "scipy.interpolate", "tensorboard", "torch"]
multiprocessing.set_forkserver_preload(LIBRARIES)
PATIENCE = 300  # seconds allowed on a busy machine


class ForkedProcess:
    """A process that calls a function of a test module; its output goes to `output_file`."""

    def __init__(self, function: Callable[..., object], *arguments: object, output_file: Path) -> None:
        self.output_file = output_file
        self.process: ForkServerProcess = multiprocessing.get_context(START).Process(
            target=_call, args=(function, arguments, str(output_file))
        )
        self.process.start()

    def end(self) -> int | None:
        """Wait for the process; returns its exit code, minus the signal that killed it."""
        self.process.join(PATIENCE)
        return self.process.exitcode

    def finish(self) -> str:
        """Wait for the process, which has to exit with 0; returns its output."""
        code, text = self.end(), self.output_file.read_text()
        assert code == 0, text
        return text


def join_launch(rank: int, world: int, port: int) -> None:
    """Set the environment of process `rank` of a launch by torchrun on this machine."""
    sizes = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
    os.environ |= {name: str(value) for name, value in (sizes | {"MASTER_PORT": port}).items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test"}


def free_ports(count: int) -> list[int]:
    """Return free ports of this machine."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _call(function: Callable[..., object], arguments: tuple[object, ...], output_file: str) -> None:
    opened = os.open(output_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(opened, number)
        setattr(sys, name, open(number, "w", closefd=False, buffering=1))  # noqa: SIM115
    # Its own workers use the system's default start method.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    torch.set_num_threads(1)
    function(*arguments)
