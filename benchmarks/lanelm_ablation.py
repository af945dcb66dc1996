"""Measures the contribution of each part of LaneLM: the same detector, data and steps, one change at a time.

    clrernetlm synth bench/data --train 3000 --val 300 --test 500 --seed 3 --size 820x295
    clrernetlm train bench_efficientnet_lite0 --training.work-dir bench/detector_0          (and seed 1)
    python benchmarks/lanelm_ablation.py --data bench/data --detectors bench/detector_{0,1}/checkpoints/best.ckpt

Each variant is trained once per detector, with the detector's number as its seed, its threshold chosen on the
validation list, and scored on the test list by free-running decoding. Finished runs are read from disk, so that the
script can be interrupted and restarted. Prints a table in Markdown: mean over the seeds, and half their difference.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from lanelm_snap import train_snap
from timing import positive

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import Config, load_config
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import write_text_atomically
from clrernetlm.evaluation.prompt_modes import PromptProtocol, predict_modes
from clrernetlm.evaluation.score_detector import score_folder
from clrernetlm.evaluation.score_lanelm import score_lanelm
from clrernetlm.evaluation.score_options import RunOptions
from clrernetlm.evaluation.simulated_clicks import ClickSettings
from clrernetlm.training.train import train

SNAP = "snapped to the strongest response (control)"
VARIANTS: dict[str, tuple[str, ...]] = {
    "full": (),
    "global attention only, absolute, hard, no noise (paper-like)": (
        "lanelm.network.local_sampling=False",
        "lanelm.network.offset_tokens=False",
        "lanelm.training_requests.label_sigma=0",
        "lanelm.training_requests.input_noise=0",
    ),
    "without local sampling": ("lanelm.network.local_sampling=False",),
    "without global attention": ("lanelm.network.global_attention=False",),
    "absolute tokens": ("lanelm.network.offset_tokens=False",),
    "hard labels": ("lanelm.training_requests.label_sigma=0",),
    "without input noise": ("lanelm.training_requests.input_noise=0",),
    "rows from the top": ("lanelm.network.row_order=top_down",),
    "never sees past x (control)": ("lanelm.network.autoregressive=False",),
    SNAP: (),
}
DECODING: dict[str, tuple[str, ...]] = {
    "full, no hallucination removal": ("lanelm.decode.hallucination_removal=False",)
}
MODES = ("none", "start", "1", "2", "4")


def run(name: str, overrides: tuple[str, ...], detector: Path, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train and score one variant on one detector; {column: figure in points}."""
    folder = Path(args.out) / f"{name.split(',')[0].replace(' ', '_').replace('(', '').replace(')', '')}_{seed}"
    result = folder / "result.json"
    if result.exists():
        return cast(dict[str, float], json.loads(result.read_text()))
    config = load_config(args.config, (f"data.root={args.data}", *args.overrides, *overrides))
    config.lanelm.detector = str(detector)
    config.lanelm.cache = str(Path(args.out) / f"features_{seed}")
    config.training.seed, config.training.epochs = seed, args.epochs
    config.training.validate_every, config.training.work_dir = 0, str(folder)
    if name == SNAP:
        figures = score_snap(config)
    else:
        checkpoint = train(config, resume=bool(list(folder.glob("checkpoints/epoch_*.ckpt"))))
        figures = score(config, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(result, json.dumps(figures, indent=1))
    return figures


def score_snap(config: Config) -> dict[str, float]:
    """Score the control of `lanelm_snap` on the test list, with the detector's configured confidence."""
    model = train_snap(config)
    config.lanelm.decode.lane_threshold = config.model.decode.conf_threshold
    with TemporaryDirectory() as folder:
        predict_modes(config, model, PromptProtocol(), "test", Path(folder))
        return figures_in_points("none", score_folder(config, "test", Path(folder) / "none").to_dict())


def figures_in_points(mode: str, scored: dict[str, Any]) -> dict[str, float]:
    """Select F1 and mF1 from a result of `evaluate`, in points: {column of the table: figure}."""
    total = scored["total"]
    figures = {"F1@50": total["0.5"]["f1"], "F1@75": total["0.75"]["f1"], "mF1": scored["mf1"]}
    return {f"{mode} {name}": 100 * value for name, value in figures.items()}


def score(config: Config, checkpoint: Path) -> dict[str, float]:
    """Score on the test list, at the threshold that is best on the validation list."""
    chosen = score_lanelm(config, str(checkpoint), PromptProtocol(("none",)), run=RunOptions("val", "cpu"))
    sweep = chosen["modes"]["none"]["sweep"]
    config.lanelm.decode.lane_threshold = sweep["best"]["confidence"]
    config.model.decode.conf_threshold = chosen["detector"]["sweep"]["best"]["confidence"]
    figures: dict[str, float] = {"threshold": config.lanelm.decode.lane_threshold}
    document = score_lanelm(config, str(checkpoint), PromptProtocol(MODES), run=RunOptions("test", "cpu"))
    for mode, scored in {"detector": document["detector"], **document["modes"]}.items():
        figures |= figures_in_points(mode, scored)
    config.lanelm.decode.hallucination_removal = not config.lanelm.decode.hallucination_removal
    other = score_lanelm(config, str(checkpoint), PromptProtocol(("none", "2")), run=RunOptions("test", "cpu"))["modes"]
    figures |= figures_in_points("other HR none", other["none"]) | figures_in_points("other HR 2", other["2"])
    config.lanelm.decode.hallucination_removal = not config.lanelm.decode.hallucination_removal
    bare = PromptProtocol(("2", "4"), ClickSettings(), use_proposals=False)
    for mode, scored in score_lanelm(config, str(checkpoint), bare, run=RunOptions("test", "cpu"))["modes"].items():
        figures |= figures_in_points(f"{mode} alone", scored)
    return figures


def check_inputs(args: argparse.Namespace) -> None:
    """Raise UserError for wrong settings, missing detectors and missing data, before hours of training."""
    for name, overrides in VARIANTS.items():
        if not args.only or name.startswith(tuple(args.only)):
            load_config(args.config, (f"data.root={args.data}", *args.overrides, *overrides))
    for detector in args.detectors:
        if not detector.is_file():
            raise UserError(f"{detector}: no such checkpoint; check the path")
    unknown = [seed for seed in args.seeds or () if not 0 <= seed < len(args.detectors)]
    if unknown:
        raise UserError(f"--seeds: {unknown[0]} is no number of a detector; use 0 to {len(args.detectors) - 1}")
    if not Path(args.data).is_dir():
        raise UserError(f"{args.data}: no such folder; make the data with `clrernetlm synth`")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="bench_lanelm")
    parser.add_argument("--data", default="bench/data")
    parser.add_argument("--detectors", nargs="+", type=Path, required=True)
    parser.add_argument("--out", default="bench/ablation")
    parser.add_argument("--epochs", type=positive, default=3)
    parser.add_argument("--only", nargs="*", help="names of variants, or their beginnings")
    parser.add_argument("--seeds", nargs="*", type=int, help="numbers of detectors; default: all")
    parser.add_argument("--overrides", nargs="*", default=[], help="settings for all variants")
    args = parser.parse_args()
    torch.set_num_threads(1)
    check_inputs(args)
    columns = [
        "none F1@50",
        "none F1@75",
        "none mF1",
        "start F1@50",
        "2 F1@50",
        "2 mF1",
        "4 F1@50",
        "4 mF1",
        "4 alone F1@50",
    ]
    rows = []
    for name, overrides in VARIANTS.items():
        if args.only and not name.startswith(tuple(args.only)):
            continue
        seeds = args.seeds if args.seeds is not None else range(len(args.detectors))
        rows.append((name, [run(name, overrides, args.detectors[seed], seed, args) for seed in seeds]))
    print("| variant |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    if rows:
        rows.insert(
            0,
            (
                "the detector itself",
                [{f"none {k.split()[1]}": v for k, v in r.items() if k.startswith("detector")} for r in rows[0][1]],
            ),
        )
    for name, figures in rows:
        cells = []
        for column in columns:
            values = [f[column] for f in figures if column in f]
            spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
            cells.append(f"{sum(values) / len(values):.1f}{spread}" if values else "")
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
