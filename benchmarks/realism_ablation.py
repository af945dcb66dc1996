"""What each piece of the generator's realism is worth on real photos: one left out at a time.

    python benchmarks/realism_ablation.py --photos PHOTOS --list list/dev.txt --out realism

PHOTOS is a folder in CULane's layout (images, `.lines.txt`, a list) of real photographs. They are only scored on: every
detector is trained on generated roads alone, and its confidence threshold is the best one on generated validation
images of its own kind. `generated` in the table is the test split of the full generator, the same for all. Finished
runs are read back, so the script can be stopped and started again. Prints a table in Markdown: mean over the seeds of
the training, and half their difference; data sets differ between variants, not between seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, cast

import torch

from clrernetlm.config import Config, load_config
from clrernetlm.data.synth import generate_dataset
from clrernetlm.data.synth.realism import PIECES, parse_realism
from clrernetlm.engine.testing import score_detector
from clrernetlm.engine.training import train
from clrernetlm.files import write_text_atomically

VARIANTS: dict[str, tuple[str, ...]] = {
    "all pieces": ("all",),
    **{f"without {piece}": ("all", f"no-{piece}") for piece in PIECES},
    "none (one camera, the plain generator)": ("none",),
}
SIZE = (410, 148)  # of a frame; with the piece `cameras` the width of all frames


def small(folder: Path, args: argparse.Namespace, seed: int) -> Config:
    """The shipped detector's recipe at a fraction of its input and schedule."""
    return load_config(
        "roads_efficientnet_lite0",
        (
            f"--data.root={folder / 'data'}",
            "--model.viewport.width=320",
            "--model.viewport.height=128",
            "--model.decode.nms-threshold=20",
            "--model.head.num-priors=64",
            "--model.head.roi-channels=16",
            "--data.num-workers=0",
            f"--training.epochs={args.epochs}",
            f"--training.seed={seed}",
            "--training.validate-every=0",
            "--training.ema-momentum=0.01",
            "--training.warmup-steps=50",
            f"--training.work-dir={folder / f'run_{seed}'}",
        ),
    )


def generated(name: str, args: argparse.Namespace) -> Path:
    """The folder of a variant, with its data set in `data`."""
    folder = Path(args.out) / name.split(" (")[0].replace(" ", "_")
    if (folder / "data" / "list" / "test.txt").exists():  # written last
        return folder
    generate_dataset(
        folder / "data",
        args.images,
        args.images // 10,
        args.images // 10,
        seed=args.data_seed,
        size=SIZE,
        workers=args.workers,
        realism=parse_realism(VARIANTS[name]),
        progress=False,
    )
    return folder


def run(name: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train and score one variant; F1@50 in points per list, and the threshold."""
    folder = Path(args.out) / name.split(" (")[0].replace(" ", "_")
    result = folder / f"result_{seed}.json"
    if result.exists():
        return cast(dict[str, float], json.loads(result.read_text()))
    folder = generated(name, args)
    config = small(folder, args, seed)
    checkpoint = str(train(config, resume=(folder / f"run_{seed}" / "checkpoints").exists()))

    def score(split: str) -> dict[str, Any]:
        return score_detector(config, checkpoint, split="val" if split == "val" else "test", device="cpu")

    best = score("val")["sweep"]["best"]
    config.model.decode.conf_threshold = best["confidence"]
    config.data.root = str(generated("all pieces", args) / "data")
    figures = {"generated": 100 * score("test")["total"]["0.5"]["f1"], "threshold": best["confidence"]}
    config.data.root, config.data.test_list, config.data.categories = args.photos, args.list, "folders"
    config.model.viewport_mode = args.viewport_mode
    found = score("test")
    figures["photos"] = 100 * found["total"]["0.5"]["f1"]
    figures |= {source: 100 * scores["0.5"]["f1"] for source, scores in found["categories"].items()}
    write_text_atomically(result, json.dumps(figures, indent=1))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="folder of real photos in CULane's layout")
    parser.add_argument("--list", default="list/test.txt")
    parser.add_argument("--out", default="realism")
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--data-seed", type=int, default=21)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--viewport-mode", choices=("fixed", "auto"), default="fixed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = {name: [run(name, seed, args) for seed in args.seeds] for name in VARIANTS}
    columns = [key for key in runs["all pieces"][0] if key != "threshold"]
    print(f"| F1@50, {args.images} images, {args.epochs} epochs, seeds {args.seeds} | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name, figures in runs.items():
        cells = []
        for column in columns:
            values = [figure[column] for figure in figures]
            cells.append(f"{sum(values) / len(values):.1f} ± {(max(values) - min(values)) / 2:.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
