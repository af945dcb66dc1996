"""Which values the settings may have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clrernetlm.config.schema import Config
from clrernetlm.config.serialization import flatten
from clrernetlm.errors import UserError


@dataclass(frozen=True)
class Rule:
    """A test for a value, or for each item of a tuple, and its wording after "use "."""

    holds: Callable[[Any], bool]
    wording: str


def at_least(low: float) -> Rule:
    """From `low` on, and finite."""
    return Rule(lambda value: low <= value < math.inf, f"{low:g} or more")


def between(low: float, high: float) -> Rule:
    """From `low` to `high`, both included."""
    return Rule(lambda value: low <= value <= high, f"{low:g} to {high:g}")


POSITIVE = Rule(lambda value: 0 < value < math.inf, "more than 0")
FRACTION = between(0, 1)
WIDTH = Rule(lambda value: 0 < value <= 1, "a fraction of the image width, more than 0 and at most 1")

# Every number of the schema except the Viewport's, which checks itself.
RULES: dict[str, Rule] = {
    "model.head.num_priors": at_least(1),
    "model.head.num_points": at_least(3),
    "model.head.sample_points": at_least(2),
    "model.head.refine_layers": between(1, 3),
    "model.head.feature_channels": at_least(1),
    "model.head.fc_layers": at_least(1),
    "model.head.roi_channels": at_least(1),
    "model.head.attention_size": at_least(1),
    "model.head.attention_dropout": FRACTION,
    "model.assigner.min_topk": at_least(1),
    "model.assigner.max_topk": at_least(1),
    "model.assigner.cls_weight": at_least(0),
    "model.assigner.reg_weight": at_least(0),
    "model.assigner.dynamick_lane_width": WIDTH,
    "model.assigner.cost_lane_width": WIDTH,
    "model.loss.cls_weight": at_least(0),
    "model.loss.focal_alpha": FRACTION,
    "model.loss.focal_gamma": at_least(0),
    "model.loss.xytl_weight": at_least(0),
    "model.loss.iou_weight": at_least(0),
    "model.loss.iou_lane_width": WIDTH,
    "model.loss.seg_weight": at_least(0),
    "model.loss.seg_background_weight": at_least(0),
    "model.decode.conf_threshold": FRACTION,
    "model.decode.nms_threshold": at_least(0),
    "model.max_lanes": between(1, 254),  # masks are bytes: 0 is the background, 255 is "ignore"
    "lanelm.network.num_steps": at_least(4),
    "lanelm.network.nbins_x": at_least(2),
    "lanelm.network.embed_dim": at_least(2),
    "lanelm.network.num_layers": at_least(1),
    "lanelm.network.num_heads": at_least(1),
    "lanelm.network.ffn_dim": at_least(1),
    "lanelm.network.question_stride": at_least(1),
    "lanelm.network.strip_points": at_least(1),
    "lanelm.network.strip_spacing": POSITIVE,
    "lanelm.network.offset_bins": at_least(3),
    "lanelm.network.offset_range": WIDTH,
    "lanelm.lessons.proposals": at_least(0),
    "lanelm.lessons.invented": at_least(0),
    "lanelm.lessons.unasked": at_least(0),
    "lanelm.lessons.proposal_threshold": FRACTION,
    "lanelm.lessons.match_iou": FRACTION,
    "lanelm.lessons.question_noise": at_least(0),
    "lanelm.lessons.input_noise": at_least(0),
    "lanelm.lessons.prompt_noise": at_least(0),
    "lanelm.lessons.label_sigma": at_least(0),
    "lanelm.lessons.mean_weight": at_least(0),
    "lanelm.decode.proposal_threshold": FRACTION,
    "lanelm.decode.max_proposals": at_least(1),
    "lanelm.decode.lane_threshold": FRACTION,
    "lanelm.decode.detector_share": FRACTION,
    "lanelm.decode.rounds": at_least(1),
    "lanelm.decode.hallucination_points": at_least(2),
    "lanelm.decode.nms_threshold": at_least(0),
    "lanelm.views": at_least(0),
    "lanelm.cache_limit": POSITIVE,
    "data.diff_threshold": at_least(0),
    "data.batch_size": at_least(1),
    "data.num_workers": at_least(0),
    "data.augmentation.flip": FRACTION,
    "data.augmentation.channel_shuffle": FRACTION,
    "data.augmentation.brightness_contrast": FRACTION,
    "data.augmentation.hsv": FRACTION,
    "data.augmentation.blur": FRACTION,
    "data.augmentation.affine": FRACTION,
    "data.augmentation.affine_scale": POSITIVE,
    "data.augmentation.affine_rotate": between(-180, 180),
    "data.augmentation.affine_shift": FRACTION,
    "training.epochs": at_least(1),
    "training.max_steps": Rule(lambda value: value == -1 or value >= 1, "1 or more, or -1 for no limit"),
    "training.learning_rate": POSITIVE,
    "training.betas": Rule(lambda value: 0 <= value < 1, "0 or more and less than 1"),
    "training.weight_decay": at_least(0),
    "training.warmup_steps": at_least(0),
    "training.ema_momentum": Rule(lambda value: 0 < value < 1, "more than 0 and less than 1, or None"),
    "training.clip_norm": POSITIVE,
    "training.accumulate": at_least(1),
    "training.backbone_rate": at_least(0),
    "training.log_every": at_least(1),
    "training.validate_every": at_least(0),
    "training.seed": between(0, 2**32 - 1),
    "training.num_devices": at_least(1),
    "training.num_nodes": at_least(1),
    "training.keep_checkpoints": at_least(1),
    "evaluation.lane_width": at_least(1),
    "evaluation.image_size": at_least(1),
    "evaluation.thresholds": Rule(lambda value: 0 < value < 1, "IoU values between 0 and 1"),
}

DEVICES = re.compile(r"auto|cpu|mps|cuda(:[0-9]+)?")


def validate(config: Config) -> None:
    """Raise UserError naming the first setting whose value is out of range, and the range."""
    values = flatten(config)
    for name, rule in RULES.items():
        value = values[name]
        items = value if isinstance(value, tuple) else (value,)
        if not all(item is None or rule.holds(item) for item in items):
            raise UserError(f"{name}: {_show(value)} is out of range; use {rule.wording}")
    least, most = config.model.assigner.min_topk, config.model.assigner.max_topk
    if least > most:
        raise UserError(f"model.assigner.min_topk: {least} is more than model.assigner.max_topk = {most}")
    for name in ("data.augmentation.affine_scale", "data.augmentation.affine_rotate"):
        if values[name][0] > values[name][1]:
            raise UserError(f"{name}: {_show(values[name])} is empty; write the smaller value first")
    if not values["evaluation.thresholds"]:
        raise UserError("evaluation.thresholds: empty; give at least one IoU, such as 0.5")
    if not DEVICES.fullmatch(config.training.device):
        raise UserError(f"training.device: '{config.training.device}' is unknown; use auto, cpu, cuda, cuda:N or mps")


def _show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
