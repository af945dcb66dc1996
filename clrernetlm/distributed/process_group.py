"""Processes that share one evaluation: how they come together, and what they tell the first of them."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, islice
from typing import TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from clrernetlm.core.argument_checks import shown
from clrernetlm.core.errors import UserError
from clrernetlm.core.worker_pool import available_cores
from clrernetlm.distributed.sharding import Shard

T = TypeVar("T")
FEW = 16  # processes that any machine may be asked for, however few cores it has
PATIENCE = timedelta(days=2)  # a process may wait for a slower one; one that has died is noticed at once


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that share a list. Every process must call the same methods in the same order.

    Results meet in the first process, which alone prints and writes.
    """

    shard: Shard = field(default_factory=Shard)
    local_rank: int = 0  # among those of this machine
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether results meet here."""
        return self.shard.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.shard.world == 1

    def device(self, name: str) -> str:
        """Where this process computes when the user asks for a device: GPUs of a machine are dealt out in turn."""
        count = torch.cuda.device_count()
        if self.alone or name not in ("auto", "cuda") or not count:
            return name
        return f"cuda:{self.local_rank % count}"

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in their order; empty but in the first."""
        if self.alone:
            return [value]
        values: list[T | None] | None = [None] * self.shard.world if self.first else None
        with self._talking():
            dist.gather_object(value, values, dst=0)
        return values or []  # type: ignore[return-value]

    def in_list_order(self, items: Iterable[T]) -> Iterator[T]:
        """Items of the shard, one per image -> those of all processes in the order of the list; none but in the first.

        One run of every process is in memory at a time. Every process must use up the iterator.
        """
        if self.alone:
            yield from items
            return
        rest = iter(items)
        while True:
            parts = self.gather(list(islice(rest, self.shard.run)))
            more = [any(parts)]
            with self._talking():
                dist.broadcast_object_list(more)
            if not more[0]:
                return
            yield from chain.from_iterable(parts)

    @contextmanager
    def together(self) -> Iterator[None]:
        """A UserError of any process ends all of them: the first raises it, the others leave without a word."""
        if self.alone:
            yield
            return
        mine = None
        try:
            yield
        except UserError as error:
            mine = str(error)
        errors: list[str | None] = [None] * self.shard.world
        with self._talking():
            dist.all_gather_object(errors, mine)
        found = next((text for text in errors if text is not None), None)
        if found is not None:
            # The first process has the exit code; a second failure would be one more report of torchrun.
            raise UserError(found) if self.first else SystemExit(0)

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError:  # the other end of a connection is gone, and has said why
            if self.first:
                raise UserError("another process of this evaluation has ended; see its message") from None
            raise SystemExit(1) from None

    def once_per_machine(self, make: Callable[[], T]) -> T:
        """`make()` in one process of each machine, then in the others, which find what it has left in a cache."""
        made = None
        with self.together():
            if self.local_rank == 0:
                made = make()
        with self.together():
            return make() if made is None else made


def launched_processes() -> tuple[int, int] | None:
    """Processes per machine and machines, if torchrun or srun has started this process; else None.

    Raises UserError where machines have different numbers of processes.
    """
    environment = os.environ
    if TorchElasticEnvironment.detect():
        world, local = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        machines = world // local
    elif "SLURM_STEP_NUM_TASKS" in environment:  # set by srun alone, not in the batch script around it
        world, machines = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment.get("SLURM_STEP_NUM_NODES", 1))
        local = world // machines
    else:
        return None
    if local * machines != world:
        raise UserError(f"{world} processes were started on {machines} machines; start equally many on each")
    return local, machines


def cluster_environment() -> ClusterEnvironment:
    """How the processes of this run find one another. Raises UserError for a Slurm job that Lightning does not take."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if launched_processes() is None:
        return LightningEnvironment()
    try:
        return SLURMEnvironment(auto_requeue=False)
    except RuntimeError:
        raise UserError(
            "Slurm: --ntasks alone does not say how many processes a machine has; use --ntasks-per-node"
        ) from None


@contextmanager
def process_group(processes: int, run: int) -> Iterator[ProcessGroup]:
    """The group of a shared evaluation, for the length of the block; lists are shared in runs of `run` images.

    The processes are those of torchrun or srun, if one of them started this one; otherwise `processes` on this machine,
    for which this command is started again. Only counts and text travel, so they talk through gloo on any device.
    Raises UserError when both disagree.
    """
    launched = launched_processes()
    most = max(available_cores(), FEW)
    if not 1 <= processes <= most:
        raise UserError(f"--processes: {shown(processes)} is not a number of processes; use 1 to {most}")
    local, machines = launched or (processes, 1)
    if processes not in (1, local):
        raise UserError(f"--processes: {processes}, but the launcher started {local} on this machine; leave it out")
    if local * machines == 1:
        yield ProcessGroup(Shard(run=run))
        return
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import DDPStrategy

    for library in ("lightning.fabric", "lightning.pytorch"):  # whichever was imported last does the talking
        logging.getLogger(library).setLevel(logging.WARNING)
    strategy = DDPStrategy(cluster_environment=cluster_environment(), process_group_backend="gloo", timeout=PATIENCE)
    fabric = Fabric(accelerator="cpu", devices=local, num_nodes=machines, strategy=strategy)
    fabric.launch()
    shard = Shard(fabric.global_rank, fabric.world_size, run)
    try:
        with warnings.catch_warnings():
            if shard.rank:
                warnings.simplefilter("ignore")  # the first process says the same
            yield ProcessGroup(shard, fabric.local_rank, local)
    finally:
        dist.destroy_process_group()
