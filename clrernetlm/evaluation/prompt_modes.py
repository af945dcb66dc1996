"""Runs LaneLM over a split with different prompts, from one pass of the detector over each image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from clrernetlm.config import Config
from clrernetlm.core.arrays import BoolArray, Float32Array, Float64Array, Points
from clrernetlm.core.errors import UserError
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attribute_files import attributes_path, read_labelled_lanes
from clrernetlm.core.lane_positions import with_positions
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.datasets.culane import Split, label_path, read_labels
from clrernetlm.datasets.lanelm_formatting import lane_packing
from clrernetlm.deploy.load_model import detector_of
from clrernetlm.distributed.sharding import Shard
from clrernetlm.evaluation.predict_split import Metas, detect_split, viewport_log
from clrernetlm.evaluation.score_detector import LOWEST_CONFIDENCE, detected_lanes, drawn_lanes
from clrernetlm.evaluation.simulated_clicks import MAX_CLICKS, ClickSettings, label_clicks
from clrernetlm.inference.auto_crop import DetectorBatch
from clrernetlm.metrics.attribute_scores import AttributeCounts, count_attributes
from clrernetlm.metrics.frame_scale import frame_ious, frame_scale
from clrernetlm.metrics.prediction_files import PredictionWriter
from clrernetlm.metrics.verification import true_proposals, verification
from clrernetlm.models.clrernet.decode import prediction_points
from clrernetlm.models.clrernet.detector import DetectorOutput
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase, PromptableDetector
from clrernetlm.models.lanelm.fovea.patches import FrameCrop
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.postprocess import keypoints, lanes_from_answers
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import (
    MAX_CLICK_DISTANCE,
    Requests,
    requests_from_clicks,
    requests_from_proposals,
    requests_from_start_points,
)

DETECTOR, NONE, START = "detector", "none", "start"
CLICK_MODES = tuple(str(number) for number in range(1, MAX_CLICKS + 1))
MODES = (NONE, START, *CLICK_MODES)
PAPER_MODES = (NONE, START, "1", "2", "4")

Labels = Sequence[Sequence[Points]]  # per image (N, 2) frame pixels
Levels = tuple[Tensor, ...]


@dataclass(frozen=True)
class PromptProtocol:
    """Defines the prompts of an evaluation. Raises UserError for values out of range.

    Modes in `prompts`: `none` (the detector's proposals, no prompts), `start` (only their lowest points), and `1` to
    `4` clicks on every labelled lane; a clicked lane always counts as a lane.
    """

    prompts: tuple[str, ...] = (NONE,)
    clicks: ClickSettings = field(default_factory=ClickSettings)
    use_proposals: bool = True  # False: clicks come without the proposal nearest to them
    starts: Literal["detector", "lanelm"] = "detector"  # whose confidence decides which start points are lanes
    shuffle_images: bool = False  # a control: LaneLM gets the features of another image
    shuffle_frames: bool = False  # a control: the fovea gets the pixels of another image

    def __post_init__(self) -> None:
        unknown = [mode for mode in self.prompts if mode not in MODES]
        if unknown or not self.prompts:
            raise UserError(f"prompts: '{' '.join(unknown)}' is not one of {', '.join(MODES)}, all")
        if len(set(self.prompts)) < len(self.prompts):
            raise UserError(f"prompts: {' '.join(self.prompts)} names one twice; name each once")
        if not 0 <= self.clicks.noise < np.inf:
            raise UserError(f"noise: {self.clicks.noise:g} pixels is not a distance; use 0 or more")
        if self.clicks.seed < 0:
            raise UserError(f"seed: {self.clicks.seed} is negative; use 0 or more")


@dataclass
class ProposalLog:
    """Collects the detector's proposals, an array per image: its scores, LaneLM's, and whether each was a lane."""

    detector: list[Float32Array] = field(default_factory=list)
    lanelm: list[Float32Array] = field(default_factory=list)
    true: list[BoolArray] = field(default_factory=list)

    def verification(self, config: Config) -> dict[str, Any]:
        """Measure how many false and true proposals LaneLM's and the detector's score reject."""
        return verification(
            np.concatenate([np.zeros(0), *self.detector]),
            np.concatenate([np.zeros(0), *self.lanelm]),
            np.concatenate([np.zeros(0, bool), *self.true]),
            config.model.decode.conf_threshold,
            config.lanelm.decode.lane_threshold,
        )


class ShuffledFeatures:
    """Replaces the features of each image by those of another one."""

    def __init__(self) -> None:
        self.previous: Levels | None = None  # of an image of the previous batch, for a batch of one

    def __call__(self, levels: Levels) -> Levels:
        """Roll levels (B, C, h, w) by half a batch, since neighbours in a list are similar."""
        half = len(levels[0]) // 2
        shuffled = tuple(level.roll(half, 0) for level in levels) if half else self.previous
        self.previous = tuple(level[:1].clone() for level in levels)
        if shuffled is None:
            raise UserError("shuffle_images: the first batch holds one image; set data.batch_size to 2 or more")
        return shuffled


class ShuffledCrops:
    """Replaces the crop of each image by that of another one."""

    def __init__(self) -> None:
        self.previous: FrameCrop | None = None  # of an image of the previous batch, for a batch of one

    def __call__(self, crops: Sequence[FrameCrop]) -> list[FrameCrop]:
        """Roll crops by half a batch, since neighbours in a list are similar."""
        half = len(crops) // 2
        shuffled = [*crops[half:], *crops[:half]] if half else [self.previous or crops[0]]
        if self.previous is None and not half:
            raise UserError("shuffle_frames: the first batch holds one image; set data.batch_size to 2 or more")
        self.previous = crops[0]
        return shuffled


class PromptModeRunner:
    """Runs LaneLM on batches of detector outputs in all modes of a protocol."""

    def __init__(self, config: Config, model: LaneLMDetectorBase, protocol: PromptProtocol) -> None:
        """Raises UserError for prompts to the plain variant, which takes none."""
        if not isinstance(model, PromptableDetector) and protocol.prompts != (NONE,):
            raise UserError(f"prompts: lanelm.variant {config.lanelm.variant} takes no prompts; use none")
        self.config, self.model, self.protocol = config, model, protocol
        self.shuffle, self.shuffle_crops = ShuffledFeatures(), ShuffledCrops()
        if protocol.shuffle_frames and not model.needs_crops:
            raise UserError("shuffle_frames: this model has no fovea, which alone reads the pixels of frames")

    def answers(self, batch: DetectorBatch, metas: Metas, labels: Labels) -> tuple[dict[str, Answers], Proposals]:
        """Decode the answers of every mode; also returns the proposals, of which the plain variant has none."""
        output = batch.output
        levels = self.shuffle(output.levels) if self.protocol.shuffle_images else output.levels
        if not isinstance(self.model, PromptableDetector):
            answers = self.model.decode_unprompted(replace(output, levels=levels))
            none = [tensor[:, :0] for tensor in (answers.xs, answers.visible, answers.score)]
            return {NONE: answers}, Proposals(*none)
        proposals = self.model.propose(output.predictions)
        requests = {
            mode: self.requests(self.model, mode, output, proposals, metas, labels) for mode in self.protocol.prompts
        }
        crops = batch.crops
        if self.protocol.shuffle_frames and crops is not None:
            crops = self.shuffle_crops(crops)
        return answer_jointly(self.model, levels, requests, crops), proposals

    def requests(
        self,
        model: PromptableDetector,
        mode: str,
        output: DetectorOutput,
        proposals: Proposals,
        metas: Metas,
        labels: Labels,
    ) -> Requests:
        """Build the requests of a mode for a batch."""
        config, rows = self.config, model.lanelm.rows
        if mode == NONE:
            return requests_from_proposals(proposals)
        if mode == START:
            if self.protocol.starts == "detector":  # of the detector's own results instead of all proposals
                results = model.propose(output.predictions, config.model.decode.conf_threshold)
                count = config.model.max_lanes
                proposals = Proposals(results.xs[:, :count], results.visible[:, :count], results.scores[:, :count])
            return requests_from_start_points(proposals, rows)
        points, mask = batch_clicks(config, self.protocol.clicks, int(mode), metas, labels)
        max_distance = MAX_CLICK_DISTANCE * config.model.viewport.width if self.protocol.use_proposals else 0.0
        return requests_from_clicks(proposals, points.to(rows.device), mask.to(rows.device), rows, max_distance)

    def lanes(self, mode: str, answers: Answers, batch: DetectorBatch) -> list[list[Lane]]:
        """Convert the answers of a mode to lanes per image in frame pixels, best first.

        They include lanes with scores below the threshold, for a sweep of it.
        """
        config, decode = self.config, self.config.lanelm.decode
        threshold, count = min(LOWEST_CONFIDENCE, decode.lane_threshold), config.model.max_lanes
        if mode in CLICK_MODES:
            # A clicked lane exists: neither its score nor a lane beside it may remove it.
            decode, count = replace(decode, nms_threshold=0.0), answers.score.shape[1]
        if mode in CLICK_MODES or (mode == START and self.protocol.starts == "detector"):
            answers, threshold = replace(answers, score=answers.score.clamp(min=1e-6)), 0.0
        return lanes_from_answers(answers, decode, batch.viewports, batch.frames, count, threshold)

    def min_scores(self) -> dict[str, float]:
        """Return the score from which a lane counts as a result, by mode; 0 where the score does not decide."""
        threshold = self.config.lanelm.decode.lane_threshold
        minimum = {mode: threshold if mode == NONE else 0.0 for mode in self.protocol.prompts}
        if START in minimum and self.protocol.starts == "lanelm":
            minimum[START] = threshold
        return {DETECTOR: self.config.model.decode.conf_threshold, **minimum}


@torch.inference_mode()
def predict_modes(
    config: Config,
    model: LaneLMDetectorBase,
    protocol: PromptProtocol,
    split: Split,
    folder: Path,
    shard: Shard | None = None,
    *,
    attributes: dict[str, AttributeCounts] | None = None,
    source: str = "",
    overwrite: bool = False,
) -> ProposalLog:
    """Write the predictions of a split, or a shard of it, to `folder/detector` and `folder/<mode>`, batch by batch.

    Returns the proposals, logged only if `none` is among the modes. To `attributes`, by mode, are added the counts of
    types, colours, positions and hidden points, if the model predicts them and labels have a `.lanes.json` file.
    `source` and `overwrite` as in `PredictionWriter`.
    """
    runner, log = PromptModeRunner(config, model, protocol), ProposalLog()
    min_scores = runner.min_scores()
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                PredictionWriter(folder / name, min_score=score, source=source, overwrite=overwrite)
            )
            for name, score in min_scores.items()
        }
        viewports = stack.enter_context(viewport_log(config, folder))
        for metas, batch in detect_split(config, detector_of(model), split, "Decoding", shard):
            viewports.write(metas)
            labels = read_batch_labels(config, metas)
            answers, proposals = runner.answers(batch, metas, labels)
            found = {mode: runner.lanes(mode, answers[mode], batch) for mode in protocol.prompts}
            found[DETECTOR] = detected_lanes(config, batch)
            for name, writer in writers.items():
                for meta, lanes in zip(metas, found[name], strict=True):
                    writer.write(meta["path"], drawn_lanes(lanes, meta["frame_size"]))
            if attributes is not None and model.needs_crops:
                for index, meta in enumerate(metas):
                    of_image = {mode: (found[mode][index], min_scores[mode]) for mode in protocol.prompts}
                    add_attributes(config, attributes, of_image, meta["path"], meta["frame_size"])
            if NONE in protocol.prompts:
                log_proposals(config, log, proposals, answers[NONE], labels, batch)
    return log


def add_attributes(
    config: Config,
    counts: dict[str, AttributeCounts],
    found: Mapping[str, tuple[Sequence[Lane], float]],
    path: str,
    frame: FrameSize,
) -> None:
    """Add the attributes of the lanes of one image to `counts`, by mode; nothing without a `.lanes.json` file.

    `found`: lanes by mode, and the score from which a lane counts as a result. Positions are those among the results.
    """
    lines = label_path(str(Path(config.data.root) / path.lstrip("/")))
    if not os.path.exists(attributes_path(lines)):
        return
    settings = config.evaluation
    labels = [lane for lane in read_labelled_lanes(lines, frame) if len(lane) > 1]
    for mode, (lanes, min_score) in found.items():
        results = with_positions([lane for lane in lanes if lane.score >= min_score], frame)
        drawn = [(lane, prediction_points(lane, frame)) for lane in results]
        drawn = [(lane, points) for lane, points in drawn if len(points) > 1]
        ious = frame_ious(settings, [points for _, points in drawn], [label.points for label in labels], frame)
        counts[mode] += count_attributes([lane for lane, _ in drawn], labels, ious, settings.implementation)


def read_batch_labels(config: Config, metas: Metas) -> list[list[Points]]:
    """Read the labelled lanes of a batch, per image (N, 2) frame pixels."""
    root = Path(config.data.root)
    return [read_labels(str(root / meta["path"].lstrip("/"))) for meta in metas]


def clicks_on_labels(
    config: Config,
    settings: ClickSettings,
    number: int,
    path: str,
    frame: FrameSize,
    labels: Sequence[Points],
    viewport: Viewport | None = None,
) -> tuple[Float64Array, BoolArray]:
    """Simulate clicks inside `viewport` on the L labelled lanes of one image.

    Returns clicks (L, number, 2) in frame pixels, and which of them exist (L, number). The noise of the settings is in
    pixels of the canvas on which lanes are compared (`evaluation.image_size`).
    """
    settings = replace(settings, noise=settings.noise / frame_scale(config.evaluation.image_size, frame))
    viewport = viewport or config.model.viewport
    return label_clicks(labels, path, frame, number, settings, lane_packing(config).tokenizer, viewport)


def batch_clicks(
    config: Config, settings: ClickSettings, number: int, metas: Metas, labels: Labels
) -> tuple[Tensor, Tensor]:
    """Simulate clicks on the labelled lanes of a batch.

    Returns clicks (B, L, number, 2) in network pixels, and which of them exist (B, L, number).
    """
    points = np.zeros((len(labels), max(1, *map(len, labels)), number, 2), np.float32)
    mask = np.zeros(points.shape[:3], bool)
    for image, (meta, lanes) in enumerate(zip(metas, labels, strict=True)):
        frame, view = meta["frame_size"], meta["viewport"]
        clicks, exist = clicks_on_labels(config, settings, number, meta["path"], frame, lanes, view)
        points[image, : len(lanes)] = view.to_network(clicks, frame)
        mask[image, : len(lanes)] = exist
    return torch.from_numpy(points), torch.from_numpy(mask)


def answer_jointly(
    model: PromptableDetector, levels: Levels, requests: dict[str, Requests], crops: Sequence[FrameCrop] | None = None
) -> dict[str, Answers]:
    """Decode several sets of requests about the same images in one batch."""
    clicks = max(part.prompt_mask.shape[2] for part in requests.values())
    padded = [pad_prompts(part, clicks) for part in requests.values()]
    joined = Requests(*(torch.cat([getattr(part, item.name) for part in padded], 1) for item in fields(Requests)))
    answers = model.answer(levels, joined, crops)
    counts = [part.request_mask.shape[1] for part in padded]
    return dict(zip(requests, answers.split(counts), strict=True))


def pad_prompts(requests: Requests, clicks: int) -> Requests:
    """Pad requests to `clicks` prompts; those added are masked."""
    added = clicks - requests.prompt_mask.shape[2]
    pad = torch.nn.functional.pad
    return replace(
        requests,
        prompts=pad(requests.prompts, (0, 0, 0, added)),
        prompt_mask=pad(requests.prompt_mask, (0, added)),
    )


def log_proposals(
    config: Config,
    log: ProposalLog,
    proposals: Proposals,
    answers: Answers,
    labels: Labels,
    batch: DetectorBatch,
) -> None:
    """Add the proposals of a batch to the log: both scores, and whether each was a lane."""
    settings = config.evaluation
    xs, visible, scores = (tensor.cpu().numpy() for tensor in (proposals.xs, proposals.visible, proposals.scores))
    lanelm_scores = answers.score.cpu().numpy()
    for image, (frame, viewport, lanes) in enumerate(zip(batch.frames, batch.viewports, labels, strict=True)):
        used = np.flatnonzero(visible[image].any(-1))
        points = [viewport.to_frame(keypoints(xs[image, i], visible[image, i], viewport), frame) for i in used]
        drawn = [prediction_points(Lane(np.asarray(lane, np.float64)), frame) for lane in points]
        drawable = np.array([len(lane) > 1 for lane in drawn], bool)
        ious = np.zeros((len(used), len(lanes)))
        ious[drawable] = frame_ious(settings, [lane for lane in drawn if len(lane) > 1], lanes, frame)
        log.detector.append(scores[image, used])
        log.lanelm.append(lanelm_scores[image, used])
        log.true.append(true_proposals(ious, settings.implementation))
