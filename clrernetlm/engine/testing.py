"""A trained model on a whole split, scored: `clrernetlm test`."""

from __future__ import annotations

import json as jsonlib
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from clrernetlm import __version__
from clrernetlm.config import Config
from clrernetlm.data.culane import Split
from clrernetlm.engine.data_module import build_loader
from clrernetlm.engine.detector_module import network_input
from clrernetlm.errors import UserError
from clrernetlm.evaluation import evaluate
from clrernetlm.evaluation.mistakes import mistake_pictures
from clrernetlm.evaluation.predictions import PREDICTIONS_FILE, PredictionWriter
from clrernetlm.evaluation.report import write_report
from clrernetlm.evaluation.sweep import scored_ious, sweep_confidence
from clrernetlm.evaluation.table import result_table
from clrernetlm.files import write_text_atomically
from clrernetlm.lane import Lane
from clrernetlm.models.clrernet import CLRerNet, init_detector
from clrernetlm.models.decode import decode_lanes, prediction_points

LOWEST_CONFIDENCE = 0.05  # predictions below are not written; the confidence sweep begins here
WORST_IMAGES = 12


def score_detector(
    config: Config,
    checkpoint: str | None,
    *,
    out: str | None = None,
    json: str | None = None,
    report: str | None = None,
    split: Split = "test",
    device: str = "auto",
) -> dict[str, Any]:
    """Predict a split, score it with the CULane metric, print the table; returns the scores as `evaluate` writes them.

    `out` keeps the predictions (`<image>.lines.txt` at the configured confidence, `predictions.jsonl` with scores from
    0.05 on), `json` gets the scores, `report` an HTML page with curves and the worst images. Beside the keys of
    `clrernetlm evaluate` the scores hold `sweep`: F1@50 for every confidence threshold, and the best one. Predictions
    are streamed, so memory does not grow with the data set. Raises UserError for a missing file or a checkpoint that
    does not fit.
    """
    if split not in ("val", "test"):
        raise UserError(f"--split: '{split}' is not a labelled split; use val or test")
    if not checkpoint:
        raise UserError("checkpoint: none given; without weights there is nothing to test")
    settings, root = config.evaluation, Path(config.data.root)
    images = root / (config.data.test_list if split == "test" else config.data.val_list)
    categories = root / config.data.categories
    model = init_detector(config, checkpoint, device)
    with ExitStack() as stack:
        folder = Path(out or stack.enter_context(tempfile.TemporaryDirectory()))
        predict_split(config, model, split, folder)
        per_image = folder / "per_image.jsonl"
        result = evaluate(
            folder,
            root,
            images,
            categories=categories if split == "test" and categories.is_dir() else None,
            semantics=settings.semantics,
            width=settings.lane_width,
            image_size=settings.image_size,
            thresholds=settings.thresholds,
            per_image=per_image,
            progress=sys.stderr.isatty(),
        ).to_dict()
        sweep = sweep_confidence(
            scored_ious(
                folder / PREDICTIONS_FILE, root, images, settings.semantics, settings.lane_width, settings.image_size
            ),
            confidences=tuple(np.arange(LOWEST_CONFIDENCE, 0.96, 0.01).round(2).tolist()),
            semantics=settings.semantics,
        )
        result["sweep"] = sweep.to_dict()
        Console().print(result_table(result, title=f"{config.name}: {result['images']} images"))
        best = sweep.best()
        print(
            f"best confidence {best['confidence']:.2f}: F1@50 {100 * best['f1']:.2f} "
            f"(configured {config.model.decode.conf_threshold:.2f}; choose it on validation images, not on these)"
        )
        if json:
            write_text_atomically(json, jsonlib.dumps(result, indent=1))
        if report:
            write_report(
                report,
                result,
                title=f"{config.name} on {images}",
                sweep=sweep,
                images=mistake_pictures(per_image, folder, root, root, WORST_IMAGES),
                facts={
                    "checkpoint": checkpoint,
                    "device": str(next(model.parameters()).device),
                    "network input": f"{config.model.viewport.width}x{config.model.viewport.height}",
                    "confidence threshold": f"{config.model.decode.conf_threshold:g}",
                    "metric": f"{settings.semantics}, {settings.lane_width} px on "
                    f"{settings.image_size[0]}x{settings.image_size[1]}",
                    "clrernetlm": __version__,
                    "date": date.today().isoformat(),
                },
            )
            print(f"report: {report}")
    return result


@torch.inference_mode()
def predict_split(config: Config, model: CLRerNet, split: Split, folder: Path) -> None:
    """Write the predictions of a split to `folder`, one batch in memory at a time."""
    device = next(model.parameters()).device
    decode = config.model.decode
    # Lane NMS goes best first, so lanes of low confidence never change those above a higher threshold.
    low = replace(decode, conf_threshold=min(LOWEST_CONFIDENCE, decode.conf_threshold))
    loader = build_loader(config, split)
    console = Console(stderr=True)
    with PredictionWriter(folder, min_score=decode.conf_threshold) as writer:
        for batch in track(loader, "Detecting", console=console, transient=True, disable=not console.is_terminal):
            stage = model(network_input(batch["inputs"].to(device, non_blocking=True)))[-1]
            metas = batch["metainfo"]
            frames = [meta["frame_size"] for meta in metas]
            found = decode_lanes(stage, low, config.model.viewport, frames, max_lanes=config.model.max_lanes)
            for meta, lanes in zip(metas, found, strict=True):
                rows = [Lane(prediction_points(lane, meta["frame_size"]), lane.score) for lane in lanes]
                writer.write(meta["path"], [lane for lane in rows if len(lane) > 1])
