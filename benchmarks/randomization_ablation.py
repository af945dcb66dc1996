"""Measures what each randomization group of the generator is worth on real photographs: one left out at a time.

    python benchmarks/randomization_ablation.py --photos PHOTOS --list list/dev.txt --out randomization

PHOTOS is a folder in CULane's layout (images, `.lines.txt`, a list) of real photographs. They serve for scoring only:
every detector is trained on generated roads alone, and its confidence threshold is the best one on generated validation
images of its own kind. All start from one base, trained on the plain generator, and continue for a few epochs
on roads of their own; that separates the groups at a fifth of the cost of training each from scratch.

`generated` in the table is the test split of the full generator, the same for all. Finished runs are read back, so the
script can be stopped and started again, and seeds can run side by side once `--data-only` has made the roads. Prints a
table in Markdown: mean over the seeds of the training, and half their difference; data sets differ between variants,
not between seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from timing import positive

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import Config, load_config
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import write_text_atomically
from clrernetlm.core.image_list import read_images
from clrernetlm.core.lane_files import lane_file_path
from clrernetlm.evaluation.score_detector import score_detector
from clrernetlm.evaluation.score_options import RunOptions
from clrernetlm.synth import generate_dataset
from clrernetlm.synth.randomization import RANDOMIZATION_GROUPS, parse_randomization
from clrernetlm.training.train import train
from clrernetlm.weights.imagenet import imagenet_file

VARIANTS: dict[str, tuple[str, ...]] = {
    "all groups": ("all",),
    **{f"without {group}": ("all", f"no-{group}") for group in RANDOMIZATION_GROUPS},
    "none (one camera, the plain generator)": ("none",),
}
SIZE = (820, 295)  # of a frame in pixels; with the group `cameras` the width is that of all frames
HELD_OUT = 160  # images of the validation and the test split


def recipe(
    folder: Path, run: str, seed: int, epochs: int, init_from: str | None = None, settings: Sequence[str] = ()
) -> Config:
    """Return the shipped detector's recipe at two thirds of its input size and a fraction of its schedule."""
    overrides = [
        f"--data.root={folder / 'data'}",
        "--model.viewport.width=416",
        "--model.viewport.height=160",
        "--model.decode.nms-threshold=26",
        "--data.num-workers=0",
        f"--training.epochs={epochs}",
        f"--training.seed={seed}",
        "--training.validate-every=0",
        "--training.ema-momentum=0.005",
        "--training.warmup-steps=100",
        f"--training.work-dir={folder / run}",
    ]
    if init_from:
        overrides += [f"--training.init-from={init_from}", "--training.learning-rate=8e-4"]
    return load_config("roads_efficientnet_lite0", (*overrides, *(f"--{setting}" for setting in settings)))


def ensure_data(folder: Path, images: int, randomization: tuple[str, ...], seed: int, workers: int) -> Path:
    """Generate a data set in `folder / "data"` if it is missing; returns `folder`."""
    if not (folder / "data" / "list" / "test.txt").exists():  # written last
        generate_dataset(
            folder / "data",
            images,
            HELD_OUT,
            HELD_OUT,
            seed=seed,
            size=SIZE,
            workers=workers,
            randomization=parse_randomization(randomization),
            progress=False,
        )
    return folder


def train_or_resume(config: Config) -> str:
    """Train, or resume an interrupted run, and return the checkpoint."""
    assert config.training.work_dir is not None
    return str(train(config, resume=(Path(config.training.work_dir) / "checkpoints").exists()))


def train_base(args: argparse.Namespace) -> str:
    """Return the checkpoint that all variants start from, trained on other roads of the plain generator."""
    folder = Path(args.out) / "base"
    finished = folder / "finished.txt"
    if not finished.exists():
        ensure_data(folder, args.base_images, ("none",), args.data_seed + 1, args.workers)
        write_text_atomically(finished, train_or_resume(recipe(folder, "run", 0, args.base_epochs)))
    return finished.read_text()


def variant_data(name: str, args: argparse.Namespace) -> Path:
    """Return the folder of a variant, with its roads."""
    folder = Path(args.out) / name.split(" (")[0].replace(" ", "_")
    return ensure_data(folder, args.images, VARIANTS[name], args.data_seed, args.workers)


def run(name: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train and score one variant; return F1@50 in percent per list, and the threshold."""
    folder = Path(args.out) / name.split(" (")[0].replace(" ", "_")
    tag = "_".join([str(seed), *(setting.replace("=", "_") for setting in args.settings)])
    result = folder / f"result_{tag}.json"
    if result.exists():
        return cast(dict[str, float], json.loads(result.read_text()))
    config = recipe(variant_data(name, args), f"run_{tag}", seed, args.epochs, train_base(args), args.settings)
    checkpoint = train_or_resume(config)

    def score(split: str) -> dict[str, Any]:
        return score_detector(config, checkpoint, run=RunOptions("val" if split == "val" else "test", "cpu"))

    best = score("val")["sweep"]["best"]
    config.model.decode.conf_threshold = best["confidence"]
    config.data.root = str(variant_data("all groups", args) / "data")
    figures = {"generated": 100 * score("test")["total"]["0.5"]["f1"], "threshold": best["confidence"]}
    config.data.root, config.data.test_list, config.data.categories = args.photos, args.list, "folders"
    found = score("test")
    figures["photos"] = 100 * found["total"]["0.5"]["f1"]
    figures |= {source: 100 * scores["0.5"]["f1"] for source, scores in found["categories"].items()}
    write_text_atomically(result, json.dumps(figures, indent=1))
    return figures


def check_inputs(args: argparse.Namespace) -> None:
    """Raise UserError before training for missing photos, labels and ImageNet weights, and for wrong settings."""
    config = recipe(Path(args.out), "run", 0, args.epochs, None, args.settings)
    if args.data_only:
        return
    if config.model.backbone.pretrained:
        imagenet_file(config.model.backbone.name)
    photos = Path(args.photos)
    images = list(read_images(photos / args.list))
    if not images:
        raise UserError(f"{photos / args.list}: no images; expected one image path a line")
    for image in images:
        for file in (photos / image, Path(lane_file_path(photos, image))):
            if not file.is_file():
                raise UserError(f"{file}: no such file, but {photos / args.list} names it; restore it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="folder of real photos in CULane's layout")
    parser.add_argument("--list", default="list/test.txt")
    parser.add_argument("--out", default="randomization")
    parser.add_argument("--images", type=positive, default=2400)
    parser.add_argument("--epochs", type=positive, default=3)
    parser.add_argument("--base-images", type=positive, default=3000)
    parser.add_argument("--base-epochs", type=positive, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--data-seed", type=int, default=21)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--settings", nargs="+", default=[], metavar="NAME=VALUE", help="trained with these as well")
    parser.add_argument("--data-only", action="store_true", help="make the roads of all variants, train nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    check_inputs(args)
    if args.data_only:
        for name in VARIANTS:
            variant_data(name, args)
        return
    runs = {name: [run(name, seed, args) for seed in args.seeds] for name in args.only}
    columns = [key for key in runs[args.only[0]][0] if key != "threshold"]
    print(f"| F1@50, {args.images} images, {args.epochs} epochs, seeds {args.seeds} | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name, figures in runs.items():
        cells = []
        for column in columns:
            values = [figure[column] for figure in figures]
            cells.append(f"{sum(values) / len(values):.1f} ± {(max(values) - min(values)) / 2:.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
