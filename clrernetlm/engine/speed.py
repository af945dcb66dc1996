"""How fast a detector is on this machine, image to lanes: `clrernetlm speed`."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from clrernetlm.config import Config
from clrernetlm.predictor import Predictor
from clrernetlm.runtimes.base import Backend
from clrernetlm.runtimes.detector import ExportedDetector


@dataclass(frozen=True)
class SpeedResult:
    """One measurement; latencies in milliseconds per batch, decoding (threshold, NMS, points) apart and included."""

    device: str
    backend: str
    precision: str
    batch: int
    threads: int
    network_ms: float
    decoding_ms: float
    median_ms: float
    p95_ms: float
    images_per_second: float


def speed(
    config: Config,
    checkpoint: str | None = None,
    *,
    device: str = "cpu",
    batch: int = 1,
    iterations: int = 50,
    precision: str = "fp32",
    backend: Backend | None = None,
) -> SpeedResult:
    """Time cropping, resizing, network and decoding of a batch of CULane-size images; prints and returns the result.

    The time of an iteration runs from uint8 images in memory to lanes in Python, so nothing hides on the device.
    Reading files is not included. The fifth of `iterations` before the counted ones warms up.
    """
    predictor = Predictor(config, checkpoint, device, backend, precision)
    runtime = predictor.detector.runtime if isinstance(predictor.detector, ExportedDetector) else None
    width, height = config.evaluation.image_size or (1640, 590)
    images = list(np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8))
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    kind = predictor.device.type
    network, decoding = [], []
    with torch.autocast(kind, dtype=dtype, enabled=precision != "fp32" and runtime is None):
        for step in track(range(iterations + iterations // 5), "Timing", console=Console(stderr=True), transient=True):
            start = time.perf_counter()
            predictor.set_images(images)
            if kind == "cuda":
                torch.cuda.synchronize()
            middle = time.perf_counter()
            predictor.lanes_of_images()
            if step >= iterations // 5:
                network.append(1000 * (middle - start))
                decoding.append(1000 * (time.perf_counter() - middle))
    total = np.add(network, decoding)
    name = torch.cuda.get_device_name() if kind == "cuda" else f"{kind} ({platform.processor() or platform.machine()})"
    result = SpeedResult(
        device=name,
        backend="torch" if runtime is None else runtime.name,
        precision=precision if runtime is None else runtime.about.precision,
        batch=batch,
        threads=torch.get_num_threads(),
        network_ms=float(np.median(network)),
        decoding_ms=float(np.median(decoding)),
        median_ms=float(np.median(total)),
        p95_ms=float(np.percentile(total, 95)),
        images_per_second=1000 * batch / float(np.median(total)),
    )
    table = Table("setting", "value", title=f"{config.name or 'detector'}: image to lanes, decoding included")
    for key, value in asdict(result).items():
        table.add_row(key.replace("_", " "), f"{value:.2f}" if isinstance(value, float) else str(value))
    Console().print(table)
    return result
