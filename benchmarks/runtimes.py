"""Compares every runtime, from image to lanes, with the original algorithm: `python benchmarks/runtimes.py`.

One image at a time, CLRerNet with DLA-34 at 800x320 from a 1640x590 frame in memory to lanes: crop, network, NMS,
points, on random weights. Each runtime has its own process, as in use, so that its threads and memory do not disturb
the others; they run in turns, and in a turn the second image counts, as in a stream of images. The speed of a process
depends on its position in memory, so each is started `--processes` times: the time is the median of all images,
followed by the medians of the processes. int8 is calibrated on the same random pixels, which is enough for its speed;
`benchmarks/quantisation.py` measures its accuracy.

The last lines are the limit of the processor: the time of the network's multiplications and additions alone, at the
rate of the fastest matrix product of each precision. Direct convolutions cannot be faster.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from original_detector import original_lanes
from timing import extensions, positive, seconds_in_turns, torch_setting
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from clrernetlm import Predictor
from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import Config, load_config
from clrernetlm.core.lane import Lane
from clrernetlm.core.worker_pool import available_cores
from clrernetlm.deploy.export import export_model
from clrernetlm.deploy.export.openvino_file import openvino_model, write_openvino
from clrernetlm.deploy.export.quantisation import quantise
from clrernetlm.deploy.graph_names import IMAGES
from clrernetlm.deploy.runtimes.base import Backend
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.onednn import PackedConv2d
from clrernetlm.weights.build_models import init_detector
from clrernetlm.weights.checkpoint import save_official
from clrernetlm.weights.exported_metadata import import_extra, read_metadata

Run = Callable[[], Sequence[object]]
Build = Callable[[], Run]


def main() -> None:
    parser = argparse.ArgumentParser(description="Image to lanes in every runtime against the original algorithm.")
    parser.add_argument("--config", default="clrernet_culane_dla34")
    parser.add_argument("--processes", type=positive, default=4)
    parser.add_argument("--rounds", type=positive, default=10, help="images that count in each process")
    parser.add_argument("--threads", type=positive, default=available_cores())
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor: fair on a busy machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = load_config(options.config)
    print(f"{torch_setting(options)}; {extensions()}")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        write_random_detector(config, weights)
        with redirect_stdout(sys.stderr):  # messages of the exporters
            files = export_files(config, weights, frame(), Path(folder))
        builds: dict[str, Build] = {"original, torch fp32": partial(original, config, weights)}
        for precision in ("fp32", "bf16"):
            builds[f"torch {precision}"] = partial(ours, config, weights, "torch", precision)
        for name, path in files.items():
            builds[name] = partial(ours, config, path)
        taken: list[dict[str, list[float]]] = []
        for _ in range(options.processes):
            with ExitStack() as stack:
                turns = {
                    name: stack.enter_context(Turns(build, options.threads, options.cpu_time))
                    for name, build in builds.items()
                }
                taken.append(in_turns(turns, options.rounds))
                lanes = {name: one.lanes for name, one in turns.items()}
    against = compare(taken, lanes)
    print_limits(config, against)


def frame() -> NDArray[np.uint8]:
    """Draw a frame of CULane's size, (590, 1640, 3) uint8, of random pixels."""
    return np.random.default_rng(0).integers(0, 256, (590, 1640, 3), np.uint8)


class Turns:
    """Times a run in a process of its own: `seconds()` runs twice and times the second; `lanes`: number it detects."""

    def __init__(self, build: Build, threads: int, cpu_time: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve_turns, args=(other, build, threads, cpu_time), daemon=True)

    def __enter__(self) -> Turns:
        self.process.start()
        self.lanes: int = self.connection.recv()
        return self

    def seconds(self) -> float:
        """Run twice, and return the seconds of the second run."""
        self.connection.send(True)
        taken: float = self.connection.recv()
        return taken

    def __exit__(self, *_: object) -> None:
        self.connection.send(False)
        self.process.join()


def serve_turns(connection: Connection, build: Build, threads: int, cpu_time: bool) -> None:
    """Build a run, send its number of lanes, then time runs on request: the process of a `Turns`."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    run, clock = build(), time.process_time if cpu_time else time.perf_counter
    connection.send(len(run()))
    while connection.recv():
        run()
        start = clock()
        run()
        connection.send(clock() - start)


def export_files(config: Config, weights: Path, image: NDArray[np.uint8], folder: Path) -> dict[str, Path]:
    """Export the detector, traced once, to a file per runtime and precision."""
    traced = export_model(config, weights, "onnx", out=folder / "fp32.onnx")
    metadata, graph = read_metadata(traced), import_extra("onnx").load(traced)
    files = {"onnxruntime fp32": traced}
    for precision in ("fp32", "bf16", "int8"):
        model = openvino_model(graph)
        if precision == "int8":
            model = quantise(model, [{IMAGES: config.model.viewport.apply(image)[None]}])
        files[f"openvino {precision}"] = folder / f"{precision}.xml"
        write_openvino(model, folder / f"{precision}.xml", replace(metadata, precision=precision))
    return files


def write_random_detector(config: Config, path: Path) -> CLRerNet:
    """Build a detector with random weights that turn some anchors into lanes; also writes them to `path`."""
    torch.manual_seed(0)
    model = CLRerNet(config.model).eval()
    head = model.bbox_head
    with torch.no_grad():
        torch.nn.init.normal_(head.cls_layers.weight, std=0.5)
        torch.nn.init.constant_(head.reg_layers.bias[3:4], 0.75)
    save_official(model, path)
    return model


def original(config: Config, weights: Path) -> Run:
    """Build a run of the original algorithm on these weights."""
    return partial(original_lanes, init_detector(config, weights), frame())


def ours(config: Config, weights: Path, backend: Backend | None = None, precision: str = "fp32") -> Run:
    """Build a run of `Predictor`: crop, network and decoding."""
    image = frame()
    predictor = Predictor(config, weights, backend=backend, precision=precision)

    def run() -> list[Lane]:
        predictor.set_image(image, predictor.config.model.viewport)
        return predictor.lanes()

    return run


def in_turns(turns: dict[str, Turns], rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of each run in every round, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, one in turns.items():
            taken[name].append(one.seconds())
    return taken


def compare(taken: list[dict[str, list[float]]], lanes: dict[str, int]) -> float:
    """Print the median of each run and its ratio to the first run's median, which is returned, in seconds."""
    medians = {name: statistics.median(chain(*(seconds[name] for seconds in taken))) for name in lanes}
    first = next(iter(medians.values()))
    for name, median in medians.items():
        apart = " ".join(f"{1e3 * statistics.median(seconds[name]):.0f}" for seconds in taken)
        print(f"{name:22} {1e3 * median:7.1f} ms  {first / median:5.2f}x  {lanes[name]} lanes  ({apart})")
    return first


@torch.inference_mode()
def print_limits(config: Config, against: float) -> None:
    """Print the shortest possible time of the network in each precision, and its ratio to `against` seconds."""
    size = config.model.viewport
    with FlopCounterMode(display=False) as counted:
        CLRerNet(config.model).eval()(torch.zeros(1, 3, size.height, size.width))
    operations = counted.get_total_flops()
    for precision, rate in {
        "fp32": convolution_rate(torch.float32),
        "bf16": convolution_rate(torch.bfloat16),
        "int8": product_rate(),
    }.items():
        seconds = operations / rate
        print(
            f"{precision} allows {1e3 * seconds:13.1f} ms  {against / seconds:5.2f}x  "
            f"{operations / 1e9:.1f} G operations at {rate / 1e12:.2f} T a second"
        )


def convolution_rate(dtype: torch.dtype) -> float:
    """Measure the operations per second of a large convolution."""
    channels, height, width = 256, 40, 100
    layer = nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype, bias=False)
    image = torch.ones(1, channels, height, width, dtype=dtype).to(memory_format=torch.channels_last)
    return 2 * layer.weight.numel() * height * width / shortest_seconds(partial(PackedConv2d(layer), image))


def product_rate() -> float:
    """Measure the operations per second of a large product of 8-bit matrices."""
    size = 2048
    matrix = torch.ones(size, size, dtype=torch.int8)
    return 2 * size**3 / shortest_seconds(partial(torch._int_mm, matrix, matrix))


def shortest_seconds(run: Callable[[], object]) -> float:
    """Measure the seconds of the fastest of 30 runs."""
    return min(seconds_in_turns([run], 30)[0])


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
