"""Launches the processes of a shared evaluation, gathers their results, and ends them all on an error."""

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

from clrernetlm.core.argument_checks import short_repr
from clrernetlm.core.errors import UserError
from clrernetlm.core.worker_pool import available_cores
from clrernetlm.distributed.sharding import Shard

T = TypeVar("T")
ALWAYS_ALLOWED = 16  # processes that may be started on any machine, however few cores it has
COLLECTIVE_TIMEOUT = timedelta(days=2)  # for slower processes; one that has died is noticed at once


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that share a list. Every process must call the same methods in the same order.

    Results are gathered in the main process (rank 0), which alone prints and writes.
    """

    shard: Shard = field(default_factory=Shard)
    local_rank: int = 0  # among the processes of this machine
    local_world: int = 1  # processes of this machine

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, rank 0, in which results are gathered."""
        return self.shard.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether there is no other process."""
        return self.shard.world == 1

    def device(self, name: str) -> str:
        """Choose the device of this process for the user's `name`: `auto` and `cuda` give each process its own GPU."""
        count = torch.cuda.device_count()
        if self.is_single or name not in ("auto", "cuda") or not count:
            return name
        return f"cuda:{self.local_rank % count}"

    def gather(self, value: T) -> list[T]:
        """Gather a value of every process: a list in the order of ranks in the main process, an empty one elsewhere."""
        if self.is_single:
            return [value]
        values: list[T | None] | None = [None] * self.shard.world if self.is_main else None
        with self._collective_errors():
            dist.gather_object(value, values, dst=0)
        return values or []  # type: ignore[return-value]

    def in_list_order(self, items: Iterable[T]) -> Iterator[T]:
        """Gather items of the shard, one per image: yield those of all processes in the order of the list.

        Other processes than the main one yield nothing, but must also exhaust the iterator. One chunk of every process
        is in memory at a time.
        """
        if self.is_single:
            yield from items
            return
        rest = iter(items)
        while True:
            parts = self.gather(list(islice(rest, self.shard.chunk_size)))
            more = [any(parts)]
            with self._collective_errors():
                dist.broadcast_object_list(more)
            if not more[0]:
                return
            yield from chain.from_iterable(parts)

    @contextmanager
    def raise_everywhere(self) -> Iterator[None]:
        """End all processes on a UserError of any: the main process raises it, the others exit silently."""
        if self.is_single:
            yield
            return
        own_error = None
        try:
            yield
        except UserError as error:
            own_error = str(error)
        errors: list[str | None] = [None] * self.shard.world
        with self._collective_errors():
            dist.all_gather_object(errors, own_error)
        message = next((text for text in errors if text is not None), None)
        if message is not None:
            # The main process has the exit code; a second failure would be one more report of torchrun.
            raise UserError(message) if self.is_main else SystemExit(0)

    @contextmanager
    def _collective_errors(self) -> Iterator[None]:
        """Turn the RuntimeError of a collective operation, raised when another process has ended, into a UserError."""
        try:
            yield
        except RuntimeError:  # the other end of a connection is gone, and has printed why
            if self.is_main:
                raise UserError("another process of this evaluation has ended; see its message") from None
            raise SystemExit(1) from None

    def once_per_machine(self, make: Callable[[], T]) -> T:
        """Call `make()` in one process of each machine, then in its others, which find the cache filled."""
        made = None
        with self.raise_everywhere():
            if self.local_rank == 0:
                made = make()
        with self.raise_everywhere():
            return make() if made is None else made


def launched_processes() -> tuple[int, int] | None:
    """Read (processes per machine, machines) from the environment of torchrun or srun; None without such a launcher.

    Raises UserError if machines have different numbers of processes.
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
    """Choose Lightning's cluster environment, which connects the processes. Raises UserError for unfit Slurm jobs."""
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
def process_group(processes: int, chunk_size: int) -> Iterator[ProcessGroup]:
    """Open the process group of a shared evaluation for the block; lists are divided in chunks of `chunk_size` images.

    The processes are those of torchrun or srun, if one of them started this one; otherwise `processes` on this machine,
    for which this command is started again. Only counts and text are exchanged, by gloo on any device. Raises UserError
    if `processes` and the launcher disagree.
    """
    launched = launched_processes()
    most = max(available_cores(), ALWAYS_ALLOWED)
    if not 1 <= processes <= most:
        raise UserError(f"processes: {short_repr(processes)} is not a number of processes; use 1 to {most}")
    local, machines = launched or (processes, 1)
    if processes not in (1, local):
        raise UserError(f"processes: {processes}, but the launcher started {local} on this machine; leave it out")
    if local * machines == 1:
        yield ProcessGroup(Shard(chunk_size=chunk_size))
        return
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import DDPStrategy

    for library in ("lightning.fabric", "lightning.pytorch"):  # the one imported last prints its messages
        logging.getLogger(library).setLevel(logging.WARNING)
    strategy = DDPStrategy(
        cluster_environment=cluster_environment(), process_group_backend="gloo", timeout=COLLECTIVE_TIMEOUT
    )
    fabric = Fabric(accelerator="cpu", devices=local, num_nodes=machines, strategy=strategy)
    fabric.launch()
    shard = Shard(fabric.global_rank, fabric.world_size, chunk_size)
    try:
        with warnings.catch_warnings():
            if shard.rank:
                warnings.simplefilter("ignore")  # the main process gives the same warnings
            yield ProcessGroup(shard, fabric.local_rank, local)
    finally:
        dist.destroy_process_group()
