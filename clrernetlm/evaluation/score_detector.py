"""Scores a trained detector on a whole split: `clrernetlm test`."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from rich.console import Console

from clrernetlm.config import Config
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import replacing, temporary_folder, write_text_atomically
from clrernetlm.core.image_list import read_images
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_files import lane_file_path
from clrernetlm.core.overwrite_rules import ReadFiles, ResultFolder, check_distinct, check_output
from clrernetlm.core.version import __version__
from clrernetlm.core.viewport import FrameSize
from clrernetlm.core.worker_pool import available_cores
from clrernetlm.datasets.culane import Split
from clrernetlm.deploy.load_model import LoadedModel, detector_of, device_of, load_resolved_model
from clrernetlm.distributed.process_group import ProcessGroup, process_group
from clrernetlm.distributed.sharding import Shard
from clrernetlm.evaluation.gather import gather_lane_files, gather_lines, gather_result, gather_sum
from clrernetlm.evaluation.predict_split import VIEWPORTS_FILE, detect_split, is_viewport_log, viewport_log
from clrernetlm.evaluation.score_options import RunOptions, ScoreOutputs
from clrernetlm.inference.auto_crop import Detector, DetectorBatch
from clrernetlm.metrics import evaluate
from clrernetlm.metrics.categories import FOLDERS, folder_categories
from clrernetlm.metrics.evaluator import is_per_image
from clrernetlm.metrics.f1_counts import EvaluationResult, is_scores
from clrernetlm.metrics.frame_scale import describe_canvas
from clrernetlm.metrics.prediction_files import PREDICTIONS_FILE, PredictionWriter, duplicate_lane_file, lane_file_name
from clrernetlm.metrics.sweep import ScoredIous, Sweep, scored_ious, sweep_confidence
from clrernetlm.models.clrernet.decode import decode_lanes, prediction_points
from clrernetlm.reports.page import is_report
from clrernetlm.reports.report import write_report
from clrernetlm.reports.table import result_table
from clrernetlm.reports.worst_images import mistake_pictures

LOWEST_CONFIDENCE = 0.05  # predictions below are not written; the confidence sweep begins here
SWEPT_CONFIDENCES = tuple(np.arange(LOWEST_CONFIDENCE, 0.96, 0.01).round(2).tolist())
WORST_IMAGES = 12
MAX_FOLDERS = 30  # more top-level folders than this are clips, not sources
PER_IMAGE_FILE = "per_image.jsonl"
NO_CHECKPOINT = "checkpoint: none given; without weights there is nothing to test"


class Results(TypedDict):
    """Arguments of the writers of predictions, see `PredictionWriter`."""

    source: str
    overwrite: bool


def score_detector(
    config: Config,
    checkpoint: str | None,
    outputs: ScoreOutputs | None = None,
    run: RunOptions | None = None,
) -> dict[str, Any]:
    """Predict a split, score it with the CULane metric, print the table; returns the scores as `evaluate` writes them.

    `config` and `checkpoint` as `resolve_model` returns them. Predictions are `<image>.lines.txt` at the configured
    confidence and `predictions.jsonl` with scores from 0.05 on; the report has curves and the worst images. Beside the
    keys of `clrernetlm evaluate` the scores hold `sweep`: F1@50 for every confidence threshold, and the best one.
    Predictions are streamed, so memory does not grow with the data set. Raises UserError for a missing file or a
    checkpoint that does not fit, and, before any work, for a file that `require_writable` protects.

    Several processes, see `process_group`, share the images and get the result of one; all but the first return {}.
    """
    outputs, run = outputs or ScoreOutputs(), run or RunOptions()
    split = run.split
    require_labelled(split)
    if not checkpoint:
        raise UserError(NO_CHECKPOINT)
    results = require_writable(config, checkpoint, split, outputs)
    with process_group(run.processes, config.data.batch_size) as group, ExitStack() as stack:
        folder, shard_folder = result_folders(group, outputs.out, stack)
        model = detector_of(load_for_run(config, checkpoint, run, group))
        with group.raise_everywhere():
            predict_split(config, model, split, shard_folder, group.shard, **results)
            counts = score_folder(config, split, shard_folder, group)
            sweep = sweep_confidence(
                folder_ious(config, split, shard_folder, group.shard),
                confidences=SWEPT_CONFIDENCES,
                implementation=config.evaluation.implementation,
            )
        counts, sweep = gather_result(group, counts), gather_sum(group, sweep)
        if outputs.out or outputs.report:
            gather_predictions(group, config, split, shard_folder, folder, **results)
            gather_viewports(group, config, shard_folder, folder)
        if not group.is_main:
            return {}
        result = counts.to_dict() | {"sweep": sweep.to_dict()}
        Console().print(result_table(result, title=f"{config.name}: {result['images']} images"))
        print(best_confidence(sweep, config.model.decode.conf_threshold, split))
        try:
            if outputs.report:
                write_report(
                    outputs.report,
                    result,
                    title=f"{config.name} on {image_list(config, split)}",
                    sweep=sweep,
                    images=mistake_pictures(
                        folder / PER_IMAGE_FILE, folder, config.data.root, config.data.root, WORST_IMAGES
                    ),
                    facts=run_settings(config, checkpoint, f"{device_of(model)}, {run.backend or 'torch'}"),
                )
                print(f"report: {outputs.report}")
        finally:
            if outputs.json:  # last, as a sign that everything before is complete
                write_text_atomically(outputs.json, jsonlib.dumps(result, indent=1))
    return result


def load_for_run(config: Config, checkpoint: str, run: RunOptions, group: ProcessGroup) -> LoadedModel:
    """Load the model in every process; the first one of a machine exports it, if needed, for the others to reuse."""
    return group.once_per_machine(
        lambda: load_resolved_model(
            config, checkpoint, group.device(run.device), run.backend, trust_code=run.trust_code
        )
    )


def result_folders(group: ProcessGroup, out: str | None, stack: ExitStack) -> tuple[Path, Path]:
    """Return the folder of the predictions and that of this process's own; `stack` removes temporary ones."""

    def temporary() -> Path:
        return stack.enter_context(temporary_folder())

    folder = Path(out) if out else temporary()
    return folder, folder if group.is_single else temporary()


def require_writable(
    config: Config,
    checkpoint: str,
    split: Split,
    outputs: ScoreOutputs,
    modes: Sequence[str] = ("",),
) -> Results:
    """Raise UserError for a file that a run would overwrite and may not; returns the arguments of its writers.

    Protected are the labels, even where missing, and everything that is not a result of an earlier run; such results
    need `overwrite` unless they are of the same model and list. `modes`: folders below `out` that get predictions.
    """
    out, json, report, overwrite = outputs.out, outputs.json, outputs.report, outputs.overwrite
    listed = image_list(config, split)
    source = f"{config.name}, {Path(checkpoint).resolve()}, {listed.resolve()}"
    check_distinct(json=json, report=report)
    reads = ReadFiles([listed, checkpoint])
    for path, parameter, kind, is_own in (
        (json, "json", "scores", is_scores),
        (report, "report", "a report", is_report),
    ):
        if path is not None:
            check_output(path, kind, is_own, parameter=parameter, overwrite=overwrite, reads=reads)
    if out is None:
        return {"source": source, "overwrite": overwrite}
    images = list(dict.fromkeys(read_images(listed, config.data.root)))
    first: dict[str, str] = {}
    for image in images:
        reads.add(lane_file_path(config.data.root, image))
        other = first.setdefault(lane_file_name(image), image)
        if other != image:
            raise duplicate_lane_file(other, image)
    written = ReadFiles()
    for mode in modes:
        folder = ResultFolder(Path(out) / mode, overwrite=overwrite, reads=reads)
        for name in (*first, PREDICTIONS_FILE):
            folder.check(name, source)
            written.add(folder.folder / name)
        # Both go with the predictions, which have been checked.
        for name, is_own in ((PER_IMAGE_FILE, is_per_image), (VIEWPORTS_FILE, is_viewport_log)):
            check_output(folder.folder / name, "a result", is_own, parameter="out", overwrite=True, reads=reads)
            written.add(folder.folder / name)
    check_output(Path(out) / VIEWPORTS_FILE, "a result", is_viewport_log, parameter="out", overwrite=True)
    for path, parameter in ((json, "json"), (report, "report")):
        if path is not None and path in written:
            raise UserError(f"{path}: {parameter} and a file of predictions have the same name; choose another")
    return {"source": source, "overwrite": overwrite}


def gather_predictions(
    group: ProcessGroup,
    config: Config,
    split: Split,
    shard_folder: Path,
    folder: Path,
    *,
    source: str = "",
    overwrite: bool = False,
) -> None:
    """Gather the scored predictions of all processes in `folder`, in the first process."""
    if not group.is_single:
        results = ResultFolder(folder, overwrite=overwrite)
        gather_lane_files(group, image_list(config, split), config.data.root, shard_folder, results, source)
        gather_lines(group, shard_folder / PREDICTIONS_FILE, lambda: results.replacing(PREDICTIONS_FILE, source))
        gather_lines(group, shard_folder / PER_IMAGE_FILE, lambda: replacing(folder / PER_IMAGE_FILE))


def gather_viewports(group: ProcessGroup, config: Config, shard_folder: Path, folder: Path) -> None:
    """Gather the logs of the viewports of all processes; there is none with a fixed crop."""
    if not group.is_single and config.model.viewport_mode == "auto":
        gather_lines(group, shard_folder / VIEWPORTS_FILE, lambda: replacing(folder / VIEWPORTS_FILE))


def require_labelled(split: str) -> None:
    """Raise UserError for a split without labels to score against."""
    if split not in ("val", "test"):
        raise UserError(f"split: '{split}' is not a labelled split; use val or test")


def image_list(config: Config, split: Split) -> Path:
    """Return the path of a labelled split's image list."""
    return Path(config.data.root) / (config.data.test_list if split == "test" else config.data.val_list)


def score_folder(config: Config, split: Split, folder: Path, group: ProcessGroup | None = None) -> EvaluationResult:
    """Score the predictions of the group's shard in `folder` as configured; writes `per_image.jsonl` there."""
    settings, root = config.evaluation, Path(config.data.root)
    group = group or ProcessGroup()
    return evaluate(
        folder,
        root,
        image_list(config, split),
        categories=split_categories(config, split),
        implementation=settings.implementation,
        width=settings.lane_width,
        image_size=settings.image_size,
        thresholds=settings.thresholds,
        workers=max(1, available_cores() // group.local_world),
        per_image=folder / PER_IMAGE_FILE,
        overwrite=True,  # existing files were checked before the work began
        progress=group.is_main and sys.stderr.isatty(),
        shard=group.shard,
    )


def split_categories(config: Config, split: Split) -> Path | str | None:
    """Choose the categories of a split, as `evaluate` takes them.

    On the test split, the configured lists. If there are none, or `data.categories` is `folders`, the top-level folders
    of the images, such as the sources of a collection, if there are several.
    """
    lists = Path(config.data.root) / config.data.categories
    by_folder = config.data.categories == FOLDERS
    if split == "test" and not by_folder and lists.is_dir():
        return lists
    if by_folder or split == "test":
        folders = folder_categories(image_list(config, split), config.data.root)
        return FOLDERS if by_folder or 1 < len(folders) <= MAX_FOLDERS else None
    return None


def folder_ious(config: Config, split: Split, folder: Path, shard: Shard | None = None) -> Iterator[ScoredIous]:
    """Yield scores and IoUs of the predictions of a shard in `folder`, image by image."""
    settings, images = config.evaluation, image_list(config, split)
    return scored_ious(
        folder / PREDICTIONS_FILE,
        config.data.root,
        images,
        settings.implementation,
        settings.lane_width,
        settings.image_size,
        shard,
    )


def best_confidence(sweep: Sweep, configured: float, split: Split, name: str = "") -> str:
    """Describe the confidence threshold of the highest F1 in one line."""
    best = sweep.best()
    advice = "" if split == "val" else "; choose it on validation images, not on these"
    return (
        f"{name}{name and ': '}best confidence {best['confidence']:.2f}: F1@50 {100 * best['f1']:.2f} "
        f"(configured {configured:.2f}{advice})"
    )


def run_settings(config: Config, checkpoint: str, device: str) -> dict[str, str]:
    """List the settings of a run that its report shows."""
    settings, viewport = config.evaluation, config.model.viewport
    return {
        "checkpoint": checkpoint,
        "device": device,
        "network input": f"{viewport.width}x{viewport.height}",
        "crop": "chosen for each image" if config.model.viewport_mode == "auto" else "the configured one",
        "confidence threshold": f"{config.model.decode.conf_threshold:g}",
        "metric": f"{settings.implementation}, {settings.lane_width} px on {describe_canvas(settings.image_size)}",
        "clrernetlm": __version__,
        "date": date.today().isoformat(),
    }


@torch.inference_mode()
def predict_split(
    config: Config,
    model: Detector,
    split: Split,
    folder: Path,
    shard: Shard | None = None,
    *,
    source: str = "",
    overwrite: bool = False,
) -> None:
    """Write the predictions of a split, or a shard of it, to `folder`, one batch in memory at a time.

    `source` and `overwrite` as in `PredictionWriter`.
    """
    least = config.model.decode.conf_threshold
    with (
        PredictionWriter(folder, min_score=least, source=source, overwrite=overwrite) as writer,
        viewport_log(config, folder) as log,
    ):
        for metas, batch in detect_split(config, model, split, "Detecting", shard):
            log.write(metas)
            for meta, lanes in zip(metas, detected_lanes(config, batch), strict=True):
                writer.write(meta["path"], drawn_lanes(lanes, meta["frame_size"]))


def detected_lanes(config: Config, batch: DetectorBatch) -> list[list[Lane]]:
    """Decode the detector's lanes of a batch, from the lowest confidence of the sweep on."""
    decode = config.model.decode
    # Lane NMS goes best first, so lanes of low confidence never change those above a higher threshold.
    low = replace(decode, conf_threshold=min(LOWEST_CONFIDENCE, decode.conf_threshold))
    return decode_lanes(batch.output.predictions, low, batch.viewports, batch.frames, max_lanes=config.model.max_lanes)


def drawn_lanes(lanes: Sequence[Lane], frame: FrameSize) -> list[Lane]:
    """Convert lanes to those of prediction files: points every other row, inside the frame (width, height)."""
    rows = [Lane(prediction_points(lane, frame), lane.score) for lane in lanes]
    return [lane for lane in rows if len(lane) > 1]
