"""Measures latency, throughput and peak memory of a model, from image to lanes: `clrernetlm speed`."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from clrernetlm.config import Config
from clrernetlm.core.argument_checks import require_whole_number
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.memory import peak_memory, reset_peak_memory
from clrernetlm.core.progress import progress_bar
from clrernetlm.deploy.runtimes.base import Backend
from clrernetlm.deploy.runtimes.exported_detector import ExportedDetector
from clrernetlm.inference.predictor import Predictor
from clrernetlm.weights.exported_metadata import MAX_BATCH
from clrernetlm.weights.registry import RANDOM

CULANE_FRAME = (1640, 590)  # width and height in pixels
MEGABYTE = 1e6  # bytes
MAX_ITERATIONS = 1_000_000


@dataclass(frozen=True)
class SpeedResult:
    """Timing of one batch size: from uint8 images in memory to predictions, with `decoding` to lanes in Python."""

    device: str
    runtime: str
    precision: str
    threads: int
    batch: int
    decoding: bool
    median_ms: float  # per batch
    p95_ms: float
    peak_memory: int | None  # bytes, of the GPU's memory or else of the process; None if the platform reports none

    @property
    def images_per_second(self) -> float:
        """Throughput at the median latency."""
        return 1000 * self.batch / self.median_ms


def speed(
    config: Config,
    checkpoint: PathLike | None = None,
    *,
    device: str = "cpu",
    batches: Sequence[int] = (1,),
    iterations: int = 50,
    precisions: Sequence[str] = ("fp32",),
    backend: Backend | None = None,
    compiled: bool = False,
    trust_code: bool = False,
) -> list[SpeedResult]:
    """Time a model on frames of random pixels, in every precision and batch size; prints a table and returns its rows.

    Every combination gives two rows: first cropping, resizing and the network, then the same with decoding (threshold,
    NMS, points; with LaneLM also its keypoints). Reading files is not included. `iterations` are timed, after a warm-up
    of a fifth of that number, at least one. Without a checkpoint the weights are random, and the table says so.
    `backend`, `compiled` and `trust_code` as in `Predictor`. Raises UserError for numbers out of range, and for several
    precisions, or `compiled`, of an exported model.
    """
    for batch in batches:
        require_whole_number(batch, "batches", 1, MAX_BATCH)
    require_whole_number(iterations, "iterations", 1, MAX_ITERATIONS)
    checkpoint = RANDOM if checkpoint is None else checkpoint
    results = []
    for precision in precisions:
        predictor = Predictor(config, checkpoint, device, backend, precision, compiled, trust_code)
        if isinstance(predictor.detector, ExportedDetector) and (compiled or len(precisions) > 1):
            exported_precision = predictor.detector.runtime.metadata.precision
            raise UserError(
                f"precision: an exported model keeps its own, {exported_precision}, and is not compiled; "
                "time one at a time"
            )
        for batch in batches:
            results += time_batches(predictor, batch, iterations, precision)
    weights = f", {RANDOM} weights" if checkpoint == RANDOM else ""
    Console().print(speed_table(f"{config.name or 'detector'}{weights}", results))
    return results


def time_batches(predictor: Predictor, batch: int, iterations: int, precision: str) -> list[SpeedResult]:
    """Time a model on batches of one size; returns the row without decoding and the row with it."""
    width, height = predictor.config.evaluation.image_size or CULANE_FRAME
    images = list(np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8))
    reset_peak_memory(predictor.device)
    network_ms, total_ms = [], []  # per batch
    warm_up = max(iterations // 5, 1)  # the first batch compiles kernels, records CUDA graphs and allocates memory
    for step in progress_bar(range(iterations + warm_up), "Timing"):
        start = time.perf_counter()
        predictor.set_images(images)
        synchronize(predictor.device)
        network_end = time.perf_counter()
        predictor.lanes_of_images()
        if step >= warm_up:
            network_ms.append(1000 * (network_end - start))
            total_ms.append(1000 * (time.perf_counter() - start))
    peak = peak_memory(predictor.device)
    detector = predictor.detector
    runtime = detector.runtime if isinstance(detector, ExportedDetector) else None

    def row(milliseconds: Sequence[float], decoding: bool) -> SpeedResult:
        return SpeedResult(
            device=device_name(predictor.device),
            runtime="torch" if runtime is None else runtime.name,
            precision=precision if runtime is None else runtime.metadata.precision,
            threads=torch.get_num_threads(),
            batch=batch,
            decoding=decoding,
            median_ms=float(np.median(milliseconds)),
            p95_ms=float(np.percentile(milliseconds, 95)),
            peak_memory=peak,
        )

    return [row(network_ms, decoding=False), row(total_ms, decoding=True)]


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished all work it was given; returns at once on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def speed_table(title: str, results: Sequence[SpeedResult]) -> Table:
    """Format the rows as a table: times in milliseconds per batch, memory in megabytes."""
    table = Table(
        title=f"{title}: image to lanes",
        caption=f"milliseconds per batch, megabytes at the peak; {results[0].threads} threads of {processor()}",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("device", overflow="fold")  # the only column that is wrapped in a narrow terminal
    for name in ("runtime", "precision"):
        table.add_column(name, no_wrap=True)
    for name in ("batch", "decoding", "median", "p95", "images/s", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        table.add_row(
            *(result.device, result.runtime, result.precision, str(result.batch)),
            "included" if result.decoding else "apart",
            *(f"{value:.1f}" for value in (result.median_ms, result.p95_ms, result.images_per_second)),
            "-" if result.peak_memory is None else f"{result.peak_memory / MEGABYTE:.0f}",
        )
    return table


def device_name(device: torch.device) -> str:
    """Return the product name of a GPU, or the type of another device, such as cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def processor() -> str:
    """Return the processor's name, or its architecture if the platform reports no name."""
    return platform.processor() or platform.machine()
