"""Image to lanes in every runtime against the original algorithm: `python benchmarks/runtimes.py [--rounds N]`.

One image at a time, CLRerNet with DLA-34 at 800x320 from a 1640x590 frame in memory to lanes: crop, network, NMS,
points, on random weights. Each has a process of its own, as in use, so that its threads and memory are not in the way
of the others'; they take turns, and in a turn the second image counts, as in a stream of images. int8 is calibrated on
the same random pixels, which is enough for its speed; `benchmarks/quantisation.py` measures what it costs.
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
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from original_detector import original_lanes
from timing import cores, extensions, torch_setting

from clrernetlm import Predictor
from clrernetlm.config import Config, load_config
from clrernetlm.export import export_model
from clrernetlm.export.openvino_file import openvino_model, write_openvino
from clrernetlm.export.quantisation import quantise
from clrernetlm.lane import Lane
from clrernetlm.models.checkpoint import save_official
from clrernetlm.models.clrernet import CLRerNet, init_detector
from clrernetlm.runtimes.about import needed, read_about
from clrernetlm.runtimes.base import Backend
from clrernetlm.runtimes.names import IMAGES

Run = Callable[[], Sequence[object]]
Build = Callable[[], Run]


def main() -> None:
    parser = argparse.ArgumentParser(description="Image to lanes in every runtime against the original algorithm.")
    parser.add_argument("--config", default="clrernet_culane_dla34")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor: fair on a busy machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = load_config(options.config)
    print(f"{torch_setting(options)}; {extensions()}")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        detector(config, weights)
        with redirect_stdout(sys.stderr):  # what the exporters have to say
            files = exports(config, weights, frame(), Path(folder))
        builds: dict[str, Build] = {"original, torch fp32": partial(original, config, weights)}
        for precision in ("fp32", "bf16"):
            builds[f"torch {precision}"] = partial(ours, config, weights, "torch", precision)
        for name, path in files.items():
            builds[name] = partial(ours, config, path)
        with ExitStack() as stack:
            turns = {
                name: stack.enter_context(Turns(build, options.threads, options.cpu_time))
                for name, build in builds.items()
            }
            compare(turns, options.rounds)


def frame() -> NDArray[np.uint8]:
    """A frame of CULane's size, of random pixels."""
    return np.random.default_rng(0).integers(0, 256, (590, 1640, 3), np.uint8)


class Turns:
    """A run in a process of its own, one at a time: `seconds()` of the second of two, `lanes` it finds."""

    def __init__(self, build: Build, threads: int, cpu_time: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=answer, args=(other, build, threads, cpu_time), daemon=True)

    def __enter__(self) -> Turns:
        self.process.start()
        self.lanes: int = self.connection.recv()
        return self

    def seconds(self) -> float:
        self.connection.send(True)
        taken: float = self.connection.recv()
        return taken

    def __exit__(self, *_: object) -> None:
        self.connection.send(False)
        self.process.join()


def answer(connection: Connection, build: Build, threads: int, cpu_time: bool) -> None:
    """The other side of `Turns`."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    run, clock = build(), time.process_time if cpu_time else time.perf_counter
    connection.send(len(run()))
    while connection.recv():
        run()
        start = clock()
        run()
        connection.send(clock() - start)


def exports(config: Config, weights: Path, image: NDArray[np.uint8], folder: Path) -> dict[str, Path]:
    """The detector as files, traced once."""
    traced = export_model(config, weights, "onnx", out=folder / "fp32.onnx")
    about, graph = read_about(traced), needed("onnx").load(traced)
    files = {"onnxruntime fp32": traced}
    for precision in ("fp32", "bf16", "int8"):
        model = openvino_model(graph)
        if precision == "int8":
            model = quantise(model, [{IMAGES: config.model.viewport.apply(image)[None]}])
        files[f"openvino {precision}"] = folder / f"{precision}.xml"
        write_openvino(model, folder / f"{precision}.xml", replace(about, precision=precision))
    return files


def detector(config: Config, path: Path) -> CLRerNet:
    """Random weights under which some anchors are lanes; also written to `path`."""
    torch.manual_seed(0)
    model = CLRerNet(config.model).eval()
    head = model.bbox_head
    with torch.no_grad():
        torch.nn.init.normal_(head.cls_layers.weight, std=0.5)
        torch.nn.init.constant_(head.reg_layers.bias[3:4], 0.75)
    save_official(model, path)
    return model


def original(config: Config, weights: Path) -> Run:
    """The original algorithm on these weights."""
    return partial(original_lanes, init_detector(config, weights), frame())


def ours(config: Config, weights: Path, backend: Backend | None = None, precision: str = "fp32") -> Run:
    """Crop, network and decoding, as `Predictor` does them."""
    image = frame()
    predictor = Predictor(config, weights, backend=backend, precision=precision)

    def run() -> list[Lane]:
        predictor.set_image(image, predictor.config.model.viewport)
        return predictor.lanes()

    return run


def compare(turns: dict[str, Turns], rounds: int) -> None:
    """Medians and their ratios to the first one."""
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, one in turns.items():
            taken[name].append(one.seconds())
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    first = next(iter(medians.values()))
    for name, seconds in medians.items():
        print(f"{name:22} {1e3 * seconds:7.1f} ms  {first / seconds:5.2f}x  {turns[name].lanes} lanes")


if __name__ == "__main__":
    main()
