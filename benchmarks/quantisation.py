"""Measures the cost of precisions: F1 of a detector as fp32, bf16 and int8 on generated roads, and its file sizes.

python benchmarks/quantisation.py CONFIG CHECKPOINT [--calibrate 200] [--test 300] [--data FOLDER]

The roads for calibration and test are generated with different seeds, unless `--data` names a data set in CULane's
layout: then its training list is used for calibration and its test list for scoring. A packed checkpoint needs no
CONFIG: give it twice.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from timing import positive

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import Config
from clrernetlm.deploy.export import export_model
from clrernetlm.deploy.export.write_graph import SUFFIXES, Precision, Target
from clrernetlm.deploy.runtimes.base import Backend
from clrernetlm.evaluation.score_detector import score_detector
from clrernetlm.evaluation.score_options import RunOptions
from clrernetlm.synth import generate_dataset
from clrernetlm.weights.resolve import is_model_name, resolve_model

VARIANTS: tuple[tuple[Target, Backend, Precision], ...] = (
    ("openvino", "openvino", "fp32"),
    ("openvino", "openvino", "bf16"),
    ("openvino", "openvino", "fp16"),
    ("openvino", "openvino", "int8"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="F1 of one detector in several precisions.")
    parser.add_argument("config", help="config, or a packed file or model name")
    parser.add_argument("checkpoint")
    parser.add_argument("--data", help="data set in CULane's layout; default: generated")
    parser.add_argument("--calibrate", type=positive, default=200, help="generated images to calibrate on")
    parser.add_argument("--test", type=positive, default=300, help="generated images to score")
    parser.add_argument("--size", default="820x295", help="of the generated images")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.data or generate_roads(Path(folder) / "roads", options)
        config, checkpoint = resolve_detector(options.config, options.checkpoint, root)
        scores = {"torch fp32": (score(config, checkpoint, None), Path(checkpoint).stat().st_size)}
        for to, backend, precision in VARIANTS:
            path = Path(folder) / f"{precision}{SUFFIXES[to]}"
            calibration = str(Path(root) / "list" / "train_gt.txt") if precision == "int8" else None
            export_model(config, checkpoint, to, precision=precision, out=path, calibration=calibration)
            size = sum(file.stat().st_size for file in (path, path.with_suffix(".bin")) if file.is_file())
            scores[f"{backend} {precision}"] = (score(config, str(path), backend), size)
    (best, best75), _ = scores["torch fp32"]
    for name, ((f1, f75), size) in scores.items():
        print(
            f"{name:16} F1@50 {100 * f1:6.2f} ({100 * (f1 - best):+.2f})  F1@75 {100 * f75:6.2f} "
            f"({100 * (f75 - best75):+.2f})  {size / 1e6:6.1f} MB"
        )


def generate_roads(root: Path, options: argparse.Namespace) -> str:
    """Generate the data set for calibration and test in the folder `root`, which is returned."""
    width, height = (int(side) for side in options.size.split("x"))
    generate_dataset(str(root), options.calibrate, 1, options.test, seed=97, size=(width, height), workers=0)
    return str(root)


def resolve_detector(config: str, checkpoint: str, root: str) -> tuple[Config, str]:
    """Resolve the detector's settings, with the data set at `root`, and its weights file."""
    found, checkpoint = resolve_model(config, None if is_model_name(config) else checkpoint)
    found.task = "clrernet"
    found.data.root = root
    found.data.batch_size, found.data.num_workers = 4, 0
    return found, checkpoint


def score(config: Config, checkpoint: str, backend: Backend | None) -> tuple[float, float]:
    """Score a detector on the test list: F1 at IoU 0.5 and 0.75."""
    result = score_detector(config, checkpoint, run=RunOptions(device="cpu", backend=backend))
    return result["total"]["0.5"]["f1"], result["total"]["0.75"]["f1"]


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
