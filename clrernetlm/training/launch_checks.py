"""Checks that the configured processes of a training exist and can share its work."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from clrernetlm.config import Config, TrainingConfig
from clrernetlm.core.errors import UserError

if TYPE_CHECKING:
    import torch


def check_numbers(config: Config) -> None:
    """Raise UserError if the images of a step cannot be split evenly among the processes; imports nothing large."""
    processes = config.training.num_devices * config.training.num_nodes
    if config.data.batch_size % processes:
        raise UserError(
            f"data.batch_size: {config.data.batch_size} is not a multiple of the {processes} processes that share it"
        )


def check_processes(config: Config, device: torch.device) -> None:
    """Raise UserError if the settings do not fit the launcher, the devices of this machine, or one another."""
    import torch

    from clrernetlm.distributed.process_group import launched_processes  # loads PyTorch and Lightning

    settings = config.training
    local, machines = settings.num_devices, settings.num_nodes
    launched = launched_processes()
    if launched not in (None, (local, machines)):
        wanted = f"training.num_devices={launched[0]} training.num_nodes={launched[1]}"
        raise UserError(
            f"training.num_devices: {local}, training.num_nodes: {machines}, but the launcher started {launched[0]} "
            f"processes on each of {launched[1]} machines; use {wanted}"
        )
    if launched is None and machines > 1 and "MASTER_ADDR" not in os.environ:
        raise UserError(
            f"training.num_nodes: {machines}, but no launcher started this process, and it would wait for the others "
            "for ever; start it on every machine with torchrun or srun"
        )
    if device.index is not None and local > 1:
        raise UserError(f"training.num_devices: {local} do not fit in one {device}; use device cuda")
    available = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type, local)
    if local > available:
        raise UserError(
            f"training.num_devices: {local}, but this machine has {available} of {device.type}; use {available}"
        )
    check_numbers(config)
    check_strategy(settings, device)


def check_strategy(settings: TrainingConfig, device: torch.device) -> None:
    """Raise UserError for settings that Lightning's FSDP does not support."""
    if not settings.strategy.startswith("fsdp"):
        return
    if device.type != "cuda":
        raise UserError(
            f"training.strategy: {settings.strategy} needs CUDA devices, and this run is on {device}; use ddp"
        )
    for name in ("clip_norm", "ema_momentum"):
        if getattr(settings, name):
            raise UserError(
                f"training.{name}: cannot be had with strategy {settings.strategy}; use ddp, or set it None"
            )
    if settings.precision == "64-true":
        raise UserError(f"training.precision: 64-true cannot be had with strategy {settings.strategy}; use ddp")
