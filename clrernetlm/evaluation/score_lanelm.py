"""Scores LaneLM and its detector on a split: `clrernetlm test` with a config of LaneLM."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from clrernetlm.config import Config
from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import write_text_atomically
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets.culane import Split, read_labels
from clrernetlm.deploy.load_model import device_of
from clrernetlm.distributed.process_group import ProcessGroup, process_group
from clrernetlm.evaluation.gather import gather_log, gather_result, gather_sum
from clrernetlm.evaluation.predict_split import read_viewports
from clrernetlm.evaluation.prompt_modes import (
    CLICK_MODES,
    DETECTOR,
    NONE,
    START,
    PromptProtocol,
    ProposalLog,
    clicks_on_labels,
    predict_modes,
)
from clrernetlm.evaluation.score_detector import (
    NO_CHECKPOINT,
    PER_IMAGE_FILE,
    SWEPT_CONFIDENCES,
    WORST_IMAGES,
    best_confidence,
    folder_ious,
    gather_predictions,
    gather_viewports,
    image_list,
    load_for_run,
    require_labelled,
    require_writable,
    result_folders,
    run_settings,
    score_folder,
)
from clrernetlm.evaluation.score_options import RunOptions, ScoreOutputs
from clrernetlm.metrics.attribute_scores import AttributeCounts
from clrernetlm.metrics.calibration import ScoreLog
from clrernetlm.metrics.f1_counts import EvaluationResult
from clrernetlm.metrics.sweep import Sweep, sweep_confidence
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase
from clrernetlm.reports.comparison import draw_clicks, write_comparison
from clrernetlm.reports.table import attribute_table, category_table, comparison_table
from clrernetlm.reports.worst_images import image_rows, mistake_picture, worst_images


def score_lanelm(
    config: Config,
    checkpoint: str | None,
    protocol: PromptProtocol | None = None,
    outputs: ScoreOutputs | None = None,
    run: RunOptions | None = None,
) -> dict[str, Any]:
    """Run LaneLM on a split in every mode of the protocol, score it and its detector, and print the tables.

    Returns `detector` and `lanelm` (the first mode), scored as by `evaluate`; `modes`: every mode; `protocol`. With the
    mode `none` also `verification` of the detector's proposals, `calibration` of both scores, and the `sweep` of
    LaneLM's threshold. With a fovea every mode also has `attributes`, if labels have `.lanes.json` files and lanes
    match them: shares of right types, colours, positions and hidden points (`AttributeCounts.to_dict`). `outputs`: the
    predictions lie in a folder per mode.
    The detector runs once per image, and memory does not grow with the number of images. Raises UserError for a missing
    file and for a checkpoint that does not fit. Processes as in `score_detector`.
    """
    protocol = protocol or PromptProtocol()
    outputs, run = outputs or ScoreOutputs(), run or RunOptions()
    require_labelled(run.split)
    if not checkpoint:
        raise UserError(NO_CHECKPOINT)
    names = mode_names(protocol)
    results = require_writable(config, checkpoint, run.split, outputs, modes=[*names])
    with process_group(run.processes, config.data.batch_size) as group, ExitStack() as stack:
        with group.raise_everywhere():
            if protocol.shuffle_images and not group.is_single:
                raise UserError("shuffle_images: images swap features with their neighbours; use one process")
            if protocol.shuffle_frames and not group.is_single:
                raise UserError("shuffle_frames: images swap pixels with their neighbours; use one process")
        folder, shard_folder = result_folders(group, outputs.out, stack)
        model = load_for_run(config, checkpoint, run, group)
        assert isinstance(model, LaneLMDetectorBase)
        with group.raise_everywhere():
            attributes = {mode: AttributeCounts() for mode in protocol.prompts}
            log = predict_modes(
                config, model, protocol, run.split, shard_folder, group.shard, attributes=attributes, **results
            )
            scores = score_modes(config, run.split, shard_folder, names, group)
            scores.attributes = attributes
        scores = gather_scores(group, scores)
        log = gather_log(group, log)
        if outputs.out or outputs.report:
            for name in names:
                gather_predictions(group, config, run.split, shard_folder / name, folder / name, **results)
            gather_viewports(group, config, shard_folder, folder)
        if not group.is_main:
            return {}
        document = scores_document(config, protocol, run.split, scores, log)
        print_scores(config, protocol, run.split, document, scores.sweeps)
        try:
            if outputs.report:
                facts = run_settings(config, checkpoint, f"{device_of(model)}, {run.backend or 'torch'}")
                write_comparison(
                    outputs.report,
                    document,
                    {
                        name: document["detector"] if mode == DETECTOR else document["modes"][mode]
                        for mode, name in names.items()
                    },
                    title=f"{config.name} on {image_list(config, run.split)}",
                    sweeps={names[mode]: sweep for mode, sweep in scores.sweeps.items()},
                    pictures=mode_pictures(config, protocol, folder),
                    facts=facts | {"LaneLM's threshold": f"{config.lanelm.decode.lane_threshold:g}"},
                )
                print(f"report: {outputs.report}")
        finally:
            if outputs.json:  # last, as a sign that everything before is complete
                write_text_atomically(outputs.json, jsonlib.dumps(document, indent=1))
    return document


@dataclass
class ModeScores:
    """Scores by mode: counts of all; confidence sweeps and logs of scores of the detector and of `none` only.

    `attributes`: types, colours, positions and visibility, of LaneLM's modes.
    """

    counts: dict[str, EvaluationResult]
    sweeps: dict[str, Sweep]
    logs: dict[str, ScoreLog]
    attributes: dict[str, AttributeCounts] = field(default_factory=dict)


def score_modes(config: Config, split: Split, folder: Path, modes: Iterable[str], group: ProcessGroup) -> ModeScores:
    """Score the predictions of the group's shard in `folder/<mode>`, for every mode."""
    scores = ModeScores({mode: score_folder(config, split, folder / mode, group) for mode in modes}, {}, {})
    for mode in (DETECTOR, NONE):
        if mode in scores.counts:
            scores.logs[mode] = ScoreLog()
            scores.sweeps[mode] = sweep_confidence(
                scores.logs[mode].record(folder_ious(config, split, folder / mode, group.shard)),
                confidences=SWEPT_CONFIDENCES,
                implementation=config.evaluation.implementation,
            )
    return scores


def gather_scores(group: ProcessGroup, scores: ModeScores) -> ModeScores:
    """Add up the scores of all shards in the first process; the others return parts of them."""
    return ModeScores(
        {mode: gather_result(group, result) for mode, result in scores.counts.items()},
        {mode: gather_sum(group, sweep) for mode, sweep in scores.sweeps.items()},
        {mode: gather_log(group, log) for mode, log in scores.logs.items()},
        {mode: gather_sum(group, counts) for mode, counts in scores.attributes.items()},
    )


def scores_document(
    config: Config, protocol: PromptProtocol, split: Split, scores: ModeScores, log: ProposalLog
) -> dict[str, Any]:
    """Convert all scores to the JSON document that `score_lanelm` returns."""
    results = {mode: result.to_dict() for mode, result in scores.counts.items()}
    for mode, sweep in scores.sweeps.items():
        results[mode]["sweep"] = sweep.to_dict()
    for mode, attributes in scores.attributes.items():
        if attributes.lanes:
            results[mode]["attributes"] = attributes.to_dict()
    document: dict[str, Any] = {
        "detector": results[DETECTOR],
        "lanelm": results[protocol.prompts[0]],
        "modes": {mode: results[mode] for mode in protocol.prompts},
        "protocol": protocol_facts(config, protocol, split),
    }
    if NONE in results:
        document["verification"] = log.verification(config)
        document["calibration"] = {
            "lanelm" if mode == NONE else mode: score_log.reliability() for mode, score_log in scores.logs.items()
        }
    return document


def mode_names(protocol: PromptProtocol) -> dict[str, str]:
    """Return names to print by mode, the detector first, in the order of the tables."""
    names = {DETECTOR: "detector", NONE: "LaneLM", START: "start points", "1": "1 click"}
    return {name: names.get(name, f"{name} clicks") for name in (DETECTOR, *protocol.prompts)}


def protocol_facts(config: Config, protocol: PromptProtocol, split: Split) -> dict[str, Any]:
    """List the settings that the scores depend on, for JSON, under the keys of earlier versions."""
    decode = config.lanelm.decode
    return {
        "split": split,
        "prompts": [*protocol.prompts],
        "prompt_places": protocol.clicks.places,
        "noise": protocol.clicks.noise,
        "seed": protocol.clicks.seed,
        "questions": protocol.use_proposals,
        "starts": protocol.starts,
        "shuffle_images": protocol.shuffle_images,
        "shuffle_frames": protocol.shuffle_frames,
        "detector_threshold": config.model.decode.conf_threshold,
        "proposal_threshold": decode.proposal_threshold,
        "lane_threshold": decode.lane_threshold,
        "rounds": decode.refinement_rounds,
        "hallucination_removal": decode.hallucination_removal,
    }


def print_scores(
    config: Config, protocol: PromptProtocol, split: Split, document: dict[str, Any], sweeps: dict[str, Sweep]
) -> None:
    """Print tables of modes and categories, the best thresholds, and the verification of proposals."""
    names, console = mode_names(protocol), Console()
    rows = {name: document["modes"].get(mode, document["detector"]) for mode, name in names.items()}
    console.print(comparison_table(rows, title=f"{config.name}: {document['detector']['images']} images"))
    if document["detector"]["categories"]:
        console.print(category_table(rows))
    if any("attributes" in result for result in rows.values()):
        console.print(attribute_table(rows))
    configured = {DETECTOR: config.model.decode.conf_threshold, NONE: config.lanelm.decode.lane_threshold}
    for mode, sweep in sweeps.items():
        print(best_confidence(sweep, configured[mode], split, names[mode]))
    if "verification" not in document:
        return
    figures, calibration = document["verification"], document["calibration"]
    print(
        f"proposals of confidence {config.lanelm.decode.proposal_threshold:g} or more: "
        f"{figures['true']} true, {figures['false']} false"
    )
    for model, name in (("detector", names[DETECTOR]), ("lanelm", names[NONE])):
        error = calibration[model]["expected_calibration_error"]
        error_text = "-" if error is None else f"{error:.3f}"
        print(f"  {name}: {rejection_line(figures[model])}; expected calibration error {error_text}")


def rejection_line(figures: dict[str, Any]) -> str:
    """Describe the verification by one model's score in one line."""
    points = [figures["configured"], *([figures["best"]] if figures["best"] else [])]
    return "; ".join(
        f"at {point['threshold']:.3f} rejects {percent(point['false_rejected'])} of the false, "
        f"loses {percent(point['true_lost'])} of the true"
        for point in points
    )


def percent(share: float | None) -> str:
    """Format a share as a percentage; a dash for None."""
    return "-" if share is None else f"{100 * share:.1f} %"


def mode_pictures(
    config: Config, protocol: PromptProtocol, folder: Path
) -> list[tuple[str, list[tuple[str, BgrImage]]]]:
    """Draw the images with the most mistakes of the first mode: for the detector, that mode and clicks."""
    names, root = mode_names(protocol), config.data.root
    first, clicked = protocol.prompts[0], [mode for mode in protocol.prompts[1:] if mode in CLICK_MODES]
    drawn_modes = [DETECTOR, first, *(["2"] if "2" in clicked else clicked[-1:])]
    paths = [row["path"] for row in worst_images(folder / first / PER_IMAGE_FILE, WORST_IMAGES)]
    rows_of_mode = {mode: image_rows(folder / mode / PER_IMAGE_FILE, paths) for mode in drawn_modes}
    viewports = read_viewports(config, folder, paths)
    rows = []
    for path in paths:
        panels = []
        for mode in drawn_modes:
            caption, picture = mistake_picture(rows_of_mode[mode][path], folder / mode, root, root)
            if mode in CLICK_MODES:
                picture = draw_simulated_clicks(config, protocol, mode, path, picture, viewports[path])
            panels.append((f"{names[mode]}{caption.removeprefix(path)}", picture))
        rows.append((path, panels))
    return rows


def draw_simulated_clicks(
    config: Config, protocol: PromptProtocol, mode: str, path: str, picture: BgrImage, viewport: Viewport
) -> BgrImage:
    """Draw the clicks of a mode on a drawn frame."""
    labels = read_labels(str(Path(config.data.root) / path.lstrip("/")))
    frame = (picture.shape[1], picture.shape[0])
    clicks, exist = clicks_on_labels(config, protocol.clicks, int(mode), path, frame, labels, viewport)
    return draw_clicks(picture, clicks[exist])
