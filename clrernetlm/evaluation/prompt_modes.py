"""LaneLM over a split in every way it can be asked, from one look at each image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clrernetlm.config import Config
from clrernetlm.core.errors import UserError
from clrernetlm.core.lane import Lane, Points
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.datasets.culane import Split, read_labels
from clrernetlm.datasets.lanelm_formatting import lane_packing
from clrernetlm.deploy.load_model import detector_of
from clrernetlm.distributed.sharding import Shard
from clrernetlm.evaluation.predict_split import Metas, observe_split, viewport_log
from clrernetlm.evaluation.score_detector import LOWEST_CONFIDENCE, detected_lanes, drawn_lanes
from clrernetlm.evaluation.simulated_clicks import MAX_CLICKS, ClickSettings, label_clicks
from clrernetlm.inference.auto_crop import Look
from clrernetlm.metrics.frame_scale import frame_ious, frame_scale
from clrernetlm.metrics.prediction_files import PredictionWriter
from clrernetlm.metrics.verification import true_proposals, verification
from clrernetlm.models.clrernet.decode import prediction_points
from clrernetlm.models.lanelm.detector import DetectorOutput, LaneLMDetectorBase, PromptableDetector
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
CLICKED = tuple(str(number) for number in range(1, MAX_CLICKS + 1))
MODES = (NONE, START, *CLICKED)
PAPER_MODES = (NONE, START, "1", "2", "4")

Labels = Sequence[Sequence[Points]]  # per image (N, 2) frame pixels
Levels = tuple[Tensor, ...]


@dataclass(frozen=True)
class PromptProtocol:
    """What LaneLM is asked in a test. Raises UserError for what cannot be asked.

    Modes are `none` (the detector's proposals are the questions), `start` (their lowest points alone), and 1 to 4
    clicks on every labelled lane; a clicked lane always counts as a lane.
    """

    modes: tuple[str, ...] = (NONE,)
    clicks: ClickSettings = field(default_factory=ClickSettings)
    questions: bool = True  # False: clicks come without the proposal they are near to
    starts: Literal["detector", "lanelm"] = "detector"  # whose confidence decides which start points are lanes
    shuffle_images: bool = False  # a control: LaneLM reads the features of another image

    def __post_init__(self) -> None:
        unknown = [mode for mode in self.modes if mode not in MODES]
        if unknown or not self.modes:
            raise UserError(f"--prompts: '{' '.join(unknown)}' is not one of {', '.join(MODES)}, all")
        if len(set(self.modes)) < len(self.modes):
            raise UserError(f"--prompts: {' '.join(self.modes)} names one twice; name each once")
        if not 0 <= self.clicks.noise < np.inf:
            raise UserError(f"--noise: {self.clicks.noise:g} pixels is not a distance; use 0 or more")
        if self.clicks.seed < 0:
            raise UserError(f"--seed: {self.clicks.seed} is negative; use 0 or more")


@dataclass
class ProposalLog:
    """All proposals so far: the detector's scores, LaneLM's, and which were a lane."""

    detector: list[NDArray[np.float32]] = field(default_factory=list)
    lanelm: list[NDArray[np.float32]] = field(default_factory=list)
    true: list[NDArray[np.bool_]] = field(default_factory=list)

    def verification(self, config: Config) -> dict[str, Any]:
        """What LaneLM's score, and the detector's, reject of them."""
        return verification(
            np.concatenate([np.zeros(0), *self.detector]),
            np.concatenate([np.zeros(0), *self.lanelm]),
            np.concatenate([np.zeros(0, bool), *self.true]),
            config.model.decode.conf_threshold,
            config.lanelm.decode.lane_threshold,
        )


class ShuffledFeatures:
    """Features of another image of the batch in place of an image's own; the one before for a batch of one."""

    def __init__(self) -> None:
        self.before: Levels | None = None

    def __call__(self, levels: Levels) -> Levels:
        """Levels (B, C, h, w) -> the same, dealt out half a batch further: neighbours in a list look alike."""
        half = len(levels[0]) // 2
        other = tuple(level.roll(half, 0) for level in levels) if half else self.before
        self.before = tuple(level[:1].clone() for level in levels)
        if other is None:
            raise UserError("--shuffle-images: the first batch holds one image; set data.batch_size to 2 or more")
        return other


class PromptModeRunner:
    """A model asked about batches of images in the modes of a protocol."""

    def __init__(self, config: Config, model: LaneLMDetectorBase, protocol: PromptProtocol) -> None:
        """Raises UserError when the plain reading, which takes no requests, is to be asked for more than its lanes."""
        if not isinstance(model, PromptableDetector) and protocol.modes != (NONE,):
            raise UserError(f"--prompts: lanelm.variant {config.lanelm.variant} takes no prompts; use none")
        self.config, self.model, self.protocol = config, model, protocol
        self.other = ShuffledFeatures()

    def answers(
        self, observation: DetectorOutput, metas: Metas, labels: Labels
    ) -> tuple[dict[str, Answers], Proposals]:
        """Answers of every mode, and the proposals the questions came from; the plain reading has none."""
        shuffled = self.protocol.shuffle_images
        seen = DetectorOutput(self.other(observation.levels), observation.stage) if shuffled else observation
        if not isinstance(self.model, PromptableDetector):
            answers = self.model.decode_unprompted(seen)
            none = [tensor[:, :0] for tensor in (answers.xs, answers.visible, answers.score)]
            return {NONE: answers}, Proposals(*none)
        proposals = self.model.propose(observation.stage)
        requests = {
            mode: self.requests(self.model, mode, observation, proposals, metas, labels) for mode in self.protocol.modes
        }
        return answer_together(self.model, seen.levels, requests), proposals

    def requests(
        self,
        model: PromptableDetector,
        mode: str,
        observation: DetectorOutput,
        proposals: Proposals,
        metas: Metas,
        labels: Labels,
    ) -> Requests:
        """What a mode asks about a batch."""
        config, rows = self.config, model.lanelm.rows
        if mode == NONE:
            return requests_from_proposals(proposals)
        if mode == START:
            if self.protocol.starts == "detector":  # its own results, then
                own, count = (
                    model.propose(observation.stage, config.model.decode.conf_threshold),
                    config.model.max_lanes,
                )
                proposals = Proposals(own.xs[:, :count], own.visible[:, :count], own.scores[:, :count])
            return requests_from_start_points(proposals, rows)
        points, there = batch_clicks(config, self.protocol.clicks, int(mode), metas, labels)
        reach = MAX_CLICK_DISTANCE * config.model.viewport.width if self.protocol.questions else 0.0
        return requests_from_clicks(proposals, points.to(rows.device), there.to(rows.device), rows, reach)

    def lanes(self, mode: str, answers: Answers, seen: Look) -> list[list[Lane]]:
        """Answers of a mode -> lanes per image in frame pixels, best first, down to scores only a sweep looks at."""
        config, decode = self.config, self.config.lanelm.decode
        threshold, count = min(LOWEST_CONFIDENCE, decode.lane_threshold), config.model.max_lanes
        if mode in CLICKED:
            # Somebody has seen these lanes: neither a score nor a lane next to one makes it less of a lane.
            decode, count = replace(decode, nms_threshold=0.0), answers.score.shape[1]
        if mode in CLICKED or (mode == START and self.protocol.starts == "detector"):
            answers, threshold = replace(answers, score=answers.score.clamp(min=1e-6)), 0.0
        return lanes_from_answers(answers, decode, seen.viewports, seen.frames, count, threshold)

    def least_scores(self) -> dict[str, float]:
        """Name -> score from which a lane is one of the results; 0 where something else has decided that."""
        threshold = self.config.lanelm.decode.lane_threshold
        least = {mode: threshold if mode == NONE else 0.0 for mode in self.protocol.modes}
        if START in least and self.protocol.starts == "lanelm":
            least[START] = threshold
        return {DETECTOR: self.config.model.decode.conf_threshold, **least}


@torch.inference_mode()
def predict_modes(
    config: Config,
    model: LaneLMDetectorBase,
    protocol: PromptProtocol,
    split: Split,
    folder: Path,
    shard: Shard | None = None,
    *,
    source: str = "",
    overwrite: bool = False,
) -> ProposalLog:
    """Write the predictions of a split, or a shard of it, to `folder/detector` and `folder/<mode>`, batch by batch.

    Returns the proposals, logged only if `none` is among the modes. `source` and `overwrite` as in `PredictionWriter`.
    """
    interview, log = PromptModeRunner(config, model, protocol), ProposalLog()
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                PredictionWriter(folder / name, min_score=least, source=source, overwrite=overwrite)
            )
            for name, least in interview.least_scores().items()
        }
        viewports = stack.enter_context(viewport_log(config, folder))
        for metas, seen in observe_split(config, detector_of(model), split, "Asking", shard):
            viewports.write(metas)
            labels = labels_of(config, metas)
            answers, proposals = interview.answers(seen.observation, metas, labels)
            found = {mode: interview.lanes(mode, answers[mode], seen) for mode in protocol.modes}
            found[DETECTOR] = detected_lanes(config, seen)
            for name, writer in writers.items():
                for meta, lanes in zip(metas, found[name], strict=True):
                    writer.write(meta["path"], drawn_lanes(lanes, meta["frame_size"]))
            if NONE in protocol.modes:
                log_proposals(config, log, proposals, answers[NONE], labels, seen)
    return log


def labels_of(config: Config, metas: Metas) -> list[list[Points]]:
    """The labelled lanes of a batch, per image (N, 2) frame pixels."""
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
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Clicks (L, number, 2) in frame pixels on the labelled lanes of one image, inside `viewport`, and which there are.

    The noise of the settings counts in pixels of the canvas on which lanes are compared (`evaluation.image_size`).
    """
    settings = replace(settings, noise=settings.noise / frame_scale(config.evaluation.image_size, frame))
    viewport = viewport or config.model.viewport
    return label_clicks(labels, path, frame, number, settings, lane_packing(config).tokenizer, viewport)


def batch_clicks(
    config: Config, settings: ClickSettings, number: int, metas: Metas, labels: Labels
) -> tuple[Tensor, Tensor]:
    """Clicks on the labelled lanes of a batch -> (B, L, number, 2) network pixels, (B, L, number) which there are."""
    points = np.zeros((len(labels), max(1, *map(len, labels)), number, 2), np.float32)
    there = np.zeros(points.shape[:3], bool)
    for image, (meta, lanes) in enumerate(zip(metas, labels, strict=True)):
        frame, view = meta["frame_size"], meta["viewport"]
        clicks, exist = clicks_on_labels(config, settings, number, meta["path"], frame, lanes, view)
        points[image, : len(lanes)] = view.to_network(clicks, frame)
        there[image, : len(lanes)] = exist
    return torch.from_numpy(points), torch.from_numpy(there)


def answer_together(model: PromptableDetector, levels: Levels, requests: dict[str, Requests]) -> dict[str, Answers]:
    """Answers to several sets of requests about the same images, written in one go."""
    clicks = max(part.prompt_mask.shape[2] for part in requests.values())
    padded = [with_room(part, clicks) for part in requests.values()]
    joined = Requests(*(torch.cat([getattr(part, item.name) for part in padded], 1) for item in fields(Requests)))
    answers = model.answer(levels, joined)
    counts = [part.request_mask.shape[1] for part in padded]
    parts = zip(*(getattr(answers, item.name).split(counts, 1) for item in fields(Answers)), strict=True)
    return {mode: Answers(*part) for mode, part in zip(requests, parts, strict=True)}


def with_room(requests: Requests, clicks: int) -> Requests:
    """The same requests with `clicks` places for prompts, the new ones empty."""
    more = clicks - requests.prompt_mask.shape[2]
    pad = torch.nn.functional.pad
    return replace(
        requests, prompts=pad(requests.prompts, (0, 0, 0, more)), prompt_mask=pad(requests.prompt_mask, (0, more))
    )


def log_proposals(
    config: Config,
    log: ProposalLog,
    proposals: Proposals,
    answers: Answers,
    labels: Labels,
    seen: Look,
) -> None:
    """Note the proposals of a batch, LaneLM's verdict about them, and whether they were lanes."""
    settings = config.evaluation
    xs, shown, scores = (tensor.cpu().numpy() for tensor in (proposals.xs, proposals.visible, proposals.scores))
    verdicts = answers.score.cpu().numpy()
    for image, (frame, viewport, lanes) in enumerate(zip(seen.frames, seen.viewports, labels, strict=True)):
        used = np.flatnonzero(shown[image].any(-1))
        points = [viewport.to_frame(keypoints(xs[image, i], shown[image, i], viewport), frame) for i in used]
        drawn = [prediction_points(Lane(np.asarray(lane, np.float64)), frame) for lane in points]
        visible = np.array([len(lane) > 1 for lane in drawn], bool)
        ious = np.zeros((len(used), len(lanes)))
        ious[visible] = frame_ious(settings, [lane for lane in drawn if len(lane) > 1], lanes, frame)
        log.detector.append(scores[image, used])
        log.lanelm.append(verdicts[image, used])
        log.true.append(true_proposals(ious, settings.implementation))
