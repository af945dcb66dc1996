"""Image to lanes in every runtime against the original algorithm: `python benchmarks/runtimes.py [--rounds N]`.

One image at a time, CLRerNet with DLA-34 at 800x320 from a 1640x590 frame in memory to lanes: crop, network, NMS,
points. Everything takes turns in one process on random weights; in a turn the second image counts, as in a stream of
images. int8 is calibrated on the same random pixels, which is
enough for its speed; `benchmarks/quantisation.py` measures what it costs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from original_detector import original_lanes
from timing import cores, seconds_in_turns

from clrernetlm import Predictor
from clrernetlm.config import Config, load_config
from clrernetlm.export import export_model
from clrernetlm.export.openvino_file import openvino_model, write_openvino
from clrernetlm.export.quantisation import quantise
from clrernetlm.models.checkpoint import save_official
from clrernetlm.models.clrernet import CLRerNet
from clrernetlm.runtimes.about import needed, read_about
from clrernetlm.runtimes.names import IMAGES

EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Image to lanes in every runtime against the original algorithm.")
    parser.add_argument("--config", default="clrernet_culane_dla34")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor: fair on a busy machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    config = load_config(options.config)
    print(f"{options.threads} threads, torch {torch.__version__}; {processor()}")
    image = np.random.default_rng(0).integers(0, 256, (590, 1640, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        model = detector(config, weights)
        runs: dict[str, Callable[[], object]] = {"original, torch fp32": partial(original_lanes, model, image)}
        runs |= {f"torch {name}": run for name, run in torch_runs(config, weights, image).items()}
        with redirect_stdout(sys.stderr):  # what the exporters have to say
            files = exports(config, weights, image, Path(folder))
        for name, path in files.items():
            runs[name] = lanes_of(Predictor(config, path), image)
        compare(runs, options.rounds, time.process_time if options.cpu_time else time.perf_counter)


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


def torch_runs(config: Config, weights: Path, image: NDArray[np.uint8]) -> dict[str, Callable[[], object]]:
    """The package's own PyTorch, as `Predictor` uses it."""
    runs: dict[str, Callable[[], object]] = {}
    for precision in ("fp32", "bf16"):
        predictor = Predictor(config, weights, backend="torch", precision=precision)
        runs[precision] = lanes_of(predictor, image)
    return runs


def lanes_of(predictor: Predictor, image: NDArray[np.uint8]) -> Callable[[], object]:
    """Crop, network and decoding."""

    def run() -> object:
        predictor.set_image(image, predictor.config.model.viewport)
        return predictor.lanes()

    return run


def compare(runs: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> None:
    """Medians and their ratios to the first one."""
    taken = seconds_in_turns(list(runs.values()), rounds, clock, ahead=1)
    medians = {name: statistics.median(seconds) for name, seconds in zip(runs, taken, strict=True)}
    original = next(iter(medians.values()))
    for name, seconds in medians.items():
        found = runs[name]()
        lanes = len(found) if isinstance(found, list) else 0
        print(f"{name:22} {1e3 * seconds:7.1f} ms  {original / seconds:5.2f}x  {lanes} lanes")


def processor() -> str:
    """The processor and which fast arithmetic it has, from /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "processor unknown: no /proc/cpuinfo"
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    flags = set(facts.get("flags", "").split())
    has = ", ".join(name for name in EXTENSIONS if name in flags) or "none of these"
    lacks = ", ".join(name for name in EXTENSIONS if name not in flags) or "none of these"
    return f"{facts.get('model name', 'processor')}: has {has}; lacks {lacks}"


if __name__ == "__main__":
    main()
