"""Validates the ranges of settings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clrernetlm.config.schema import Config
from clrernetlm.config.serialization import flatten
from clrernetlm.core.argument_checks import short_repr
from clrernetlm.core.errors import UserError


@dataclass(frozen=True)
class Rule:
    """A condition for a value, or for each item of a tuple, and its wording after "use "."""

    holds: Callable[[Any], bool]
    wording: str


def at_least(low: float) -> Rule:
    """Make the rule for finite values of `low` or more."""
    return Rule(lambda value: low <= value < math.inf, f"{low:g} or more")


def between(low: float, high: float) -> Rule:
    """Make the rule for values from `low` to `high`, inclusive."""
    return Rule(lambda value: low <= value <= high, f"{_number(low)} to {_number(high)}")


def _number(value: float) -> str:
    """Format a number without exponent: 4294967295, 0.5."""
    return str(value) if isinstance(value, int) else f"{value:g}"


MAX_COUNT = 10**9
# Counts are bounded far above useful values: settings also come from hostile files, and building a network from them
# takes time and memory before its weights are compared with anything.
MAX_WEIGHTS = 250_000_000  # of detector and LaneLM each, 1 GB; the largest of the project's configs has 25 million
MAX_ATTENTION = 100_000_000  # anchors times positions of the context map
MAX_TEXT = 1000  # characters of a text
MAX_LIST = 100  # values in a list
POSITIVE = Rule(lambda value: 0 < value < math.inf, "more than 0")
FRACTION = between(0, 1)
WIDTH = Rule(lambda value: 0 < value <= 1, "a fraction of the image width, more than 0 and at most 1")

# Every number of the schema except those of the Viewport, which are checked by its class.
RULES: dict[str, Rule] = {
    "model.head.num_priors": between(1, 10_000),
    "model.head.num_points": between(3, 1000),
    "model.head.sample_points": between(2, 1000),
    "model.head.refine_layers": between(1, 3),
    "model.head.feature_channels": between(1, 4096),
    "model.head.fc_layers": between(1, 32),
    "model.head.roi_channels": between(1, 4096),
    "model.head.attention_size": between(1, 256),
    "model.head.attention_dropout": FRACTION,
    "model.assigner.min_topk": between(1, 1000),
    "model.assigner.max_topk": between(1, 1000),
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
    "lanelm.network.num_steps": between(4, 1000),
    "lanelm.network.nbins_x": between(2, 65_536),
    "lanelm.network.embed_dim": between(2, 8192),
    "lanelm.network.num_layers": between(1, 64),
    "lanelm.network.num_heads": between(1, 256),
    "lanelm.network.ffn_dim": between(1, 65_536),
    "lanelm.network.proposal_stride": between(1, 1000),
    "lanelm.network.strip_points": between(1, 1000),
    "lanelm.network.strip_spacing": POSITIVE,
    "lanelm.network.offset_bins": between(3, 65_536),
    "lanelm.network.offset_range": WIDTH,
    "lanelm.network.fovea_dim": between(4, 2048),
    "lanelm.network.fovea_layers": between(0, 64),
    "lanelm.network.fovea_heads": between(1, 256),
    "lanelm.training_requests.proposals": between(0, 1000),
    "lanelm.training_requests.synthetic_proposals": between(0, 1000),
    "lanelm.training_requests.prompt_only": between(0, 1000),
    "lanelm.training_requests.proposal_threshold": FRACTION,
    "lanelm.training_requests.match_iou": FRACTION,
    "lanelm.training_requests.proposal_noise": at_least(0),
    "lanelm.training_requests.input_noise": at_least(0),
    "lanelm.training_requests.prompt_noise": at_least(0),
    "lanelm.training_requests.label_sigma": at_least(0),
    "lanelm.training_requests.mean_weight": at_least(0),
    "lanelm.decode.proposal_threshold": FRACTION,
    "lanelm.decode.max_proposals": between(1, 10_000),
    "lanelm.decode.lane_threshold": FRACTION,
    "lanelm.decode.detector_score_weight": FRACTION,
    "lanelm.decode.refinement_rounds": between(1, 100),
    "lanelm.decode.hallucination_points": between(2, 10_000),
    "lanelm.decode.nms_threshold": at_least(0),
    "lanelm.decode.fovea_rounds": between(1, 100),
    "lanelm.decode.fovea_score_weight": FRACTION,
    "lanelm.decode.click_sigma": between(1e-4, 0.1),
    "lanelm.cached_augmentations": between(0, 10_000),
    "lanelm.cache_limit": POSITIVE,
    "data.diff_threshold": at_least(0),
    "data.batch_size": between(1, 100_000),
    "data.num_workers": between(0, 1024),
    "data.augmentation.flip": FRACTION,
    "data.augmentation.channel_shuffle": FRACTION,
    "data.augmentation.brightness_contrast": FRACTION,
    "data.augmentation.hsv": FRACTION,
    "data.augmentation.blur": FRACTION,
    "data.augmentation.affine": FRACTION,
    "data.augmentation.affine_scale": POSITIVE,
    "data.augmentation.affine_rotate": between(-180, 180),
    "data.augmentation.affine_shift": FRACTION,
    "training.epochs": between(1, MAX_COUNT),
    "training.max_steps": Rule(
        lambda value: value == -1 or 1 <= value <= MAX_COUNT, f"1 to {MAX_COUNT}, or -1 for no limit"
    ),
    "training.learning_rate": POSITIVE,
    "training.betas": Rule(lambda value: 0 <= value < 1, "0 or more and less than 1"),
    "training.weight_decay": at_least(0),
    "training.warmup_steps": between(0, MAX_COUNT),
    "training.ema_momentum": Rule(lambda value: 0 < value < 1, "more than 0 and less than 1, or None"),
    "training.clip_norm": POSITIVE,
    "training.accumulate": between(1, MAX_COUNT),
    "training.backbone_lr_scale": at_least(0),
    "training.log_every": between(1, MAX_COUNT),
    "training.validate_every": between(0, MAX_COUNT),
    "training.seed": between(0, 2**32 - 1),
    "training.num_devices": between(1, 1024),
    "training.num_nodes": between(1, 100_000),
    "training.keep_checkpoints": between(1, MAX_COUNT),
    "evaluation.lane_width": between(1, 1000),
    "evaluation.image_size": between(1, 16_384),
    "evaluation.thresholds": Rule(lambda value: 0 < value < 1, "IoU values between 0 and 1"),
}

DEVICES = re.compile(r"auto|cpu|mps|cuda(:[0-9]+)?")


def validate(config: Config) -> None:
    """Raise UserError naming the first setting whose value is out of range, and the range."""
    values = flatten(config)
    for name, value in values.items():
        if isinstance(value, str | tuple) and len(value) > (MAX_TEXT if isinstance(value, str) else MAX_LIST):
            raise UserError(f"{name}: {len(value)} long; use {MAX_TEXT} characters, or {MAX_LIST} values, at most")
    for name, rule in RULES.items():
        value = values[name]
        items = value if isinstance(value, tuple) else (value,)
        if not all(item is None or rule.holds(item) for item in items):
            raise UserError(f"{name}: {_show(value)} is out of range; use {rule.wording}")
    _check_size(config)
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


def _check_size(config: Config) -> None:
    """Raise UserError for settings that are each in range, but together need more memory than any machine has.

    Estimated, to a twentieth, by the products that can get large.
    """
    head, net = config.model.head, config.lanelm.network
    channels, dim = head.feature_channels, net.embed_dim
    detector = channels * (channels * (2 * head.fc_layers + head.sample_points + 50) + 54 * head.roi_channels)
    if detector > MAX_WEIGHTS:
        raise UserError(
            f"model.head: {detector / 1e6:.0f} million weights; lower feature_channels ({channels}), sample_points "
            f"({head.sample_points}), fc_layers ({head.fc_layers}) or roi_channels ({head.roi_channels})"
        )
    rows, columns = head.attention_size
    if head.num_priors * rows * columns > MAX_ATTENTION:
        raise UserError(
            f"model.head: {head.num_priors} anchors attend to {rows}x{columns} places; lower num_priors or "
            "attention_size"
        )
    reader = dim * (net.num_layers * (8 * dim + 2 * net.ffn_dim) + 2 * net.nbins_x + net.offset_bins + channels)
    if reader > MAX_WEIGHTS:
        raise UserError(
            f"lanelm.network: {reader / 1e6:.0f} million weights; lower embed_dim ({dim}), num_layers "
            f"({net.num_layers}), ffn_dim ({net.ffn_dim}) or nbins_x ({net.nbins_x})"
        )
    fovea = net.fovea_dim * (8 * net.fovea_layers * net.fovea_dim + 1000) if net.fovea else 0
    if fovea > MAX_WEIGHTS:
        raise UserError(
            f"lanelm.network: {fovea / 1e6:.0f} million weights of the fovea; lower fovea_dim ({net.fovea_dim}) or "
            f"fovea_layers ({net.fovea_layers})"
        )


def _show(value: Any) -> str:
    return " ".join(map(_show, value)) if isinstance(value, tuple) else short_repr(value).strip("'")
