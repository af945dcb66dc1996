"""Converts state dicts of published checkpoints, and explains why weights do not fit a model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clrernetlm.config.schema import BackboneConfig, ClrernetConfig
from clrernetlm.core.errors import UserError
from clrernetlm.models.backbones.registry import BACKBONES, build_backbone

# The published files store the class weights of the segmentation loss among the head's buffers, before these layers.
CLASS_WEIGHTS = "bbox_head.loss_seg.criterion.weight"
AFTER_CLASS_WEIGHTS = "bbox_head.reg_"
NETWORK_PREFIXES = ("backbone.", "neck.", "bbox_head.")
SEGMENTATION = "bbox_head.seg_decoder."
# Prefixes of all names: of DDP, torch.compile, Lightning modules, LaneLM's checkpoints with their detector.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "detector.")
MAX_WRAPPERS = 10  # prefixes before a name; a file could have thousands
# Keys under which training programs store the weights, beside optimiser and counters. Tried in this order.
WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "net", "network")
STEP_COUNTER = "num_batches_tracked"  # of batch norm; has no influence on the output of the networks here
# Entries of other engines that are no weights of the network: input scaling, flattened running averages, step counters.
IGNORED_PREFIXES = ("data_preprocessor.", "ema_", "steps", CLASS_WEIGHTS)
ANCHORS = "bbox_head.anchor_generator.prior_embeddings.weight"
SETTING_OF_WEIGHT = {
    ANCHORS: "model.head.num_priors",
    "bbox_head.prior_ys": "model.head.num_points",
    "bbox_head.prior_feat_ys": "model.head.sample_points",
    "neck.fpn_convs.0.conv.bias": "model.head.feature_channels",
    "bbox_head.attention.convs.0.bn.weight": "model.head.roi_channels",
}


def official_state_dict(model: nn.Module, config: ClrernetConfig) -> dict[str, Tensor]:
    """Return a model's weights with the names, shapes, dtypes and order of the published checkpoints; no copies."""
    class_weights = torch.ones(config.max_lanes + 1)
    class_weights[0] = config.loss.seg_background_weight
    official: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name.startswith(AFTER_CLASS_WEIGHTS):
            official.setdefault(CLASS_WEIGHTS, class_weights)
        official[name] = value
    return official


def network_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Extract the network's weights, under this package's names, from any state dict that holds them.

    Accepts the published names, those of training engines (prefixed), and a dict with a state dict under one of
    `WEIGHT_KEYS`. Raises UserError if there are no tensors.
    """
    tensors = bare_weights(state, NETWORK_PREFIXES)
    if not tensors:
        raise UserError("state_dict: no weights in it; expected names such as backbone.model.base_layer.0.weight")
    return {name: value for name, value in tensors.items() if not name.startswith(IGNORED_PREFIXES)}


def bare_weights(checkpoint: Mapping[str, Any], parts: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, their names stripped of `WRAPPERS` until some begin with one of `parts`."""
    tensors = {str(name): value for name, value in weights_in(checkpoint).items() if isinstance(value, Tensor)}
    for _ in range(MAX_WRAPPERS):
        wrapper = _wrapper(tensors, parts)
        if wrapper is None:
            break
        tensors = {name.removeprefix(wrapper): value for name, value in tensors.items() if name.startswith(wrapper)}
    return tensors


def weights_in(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the dict of weights in a checkpoint: under one of `WEIGHT_KEYS`, also nested, or the checkpoint itself."""
    for _ in WEIGHT_KEYS:
        inner = next((checkpoint[key] for key in WEIGHT_KEYS if isinstance(checkpoint.get(key), Mapping)), None)
        if inner is None:
            break
        checkpoint = inner
    return checkpoint


def _wrapper(names: Mapping[str, Tensor], parts: tuple[str, ...]) -> str | None:
    """Find the prefix of the network's names; None if they have none."""
    if any(name.startswith(parts) for name in names):
        return None
    return next((prefix for prefix in WRAPPERS if any(name.startswith(prefix) for name in names)), None)


def load_network_weights(model: nn.Module, weights: Mapping[str, Tensor], to_train: bool = True) -> None:
    """Copy `weights` into `model`, all or none; raises UserError that names the mismatches and the likely reason.

    The segmentation decoder may be missing or be for another number of lanes: detection does not use it, so the model
    keeps its own, with a warning if it is going to be trained (`to_train`). Step counters of batch norm may be missing.
    """
    require_finite(weights)
    own = model.state_dict()
    weights = with_step_counters(own, weights)
    decoder = [name for name in own if name.startswith(SEGMENTATION)]
    new_decoder = any(name not in weights or weights[name].shape != own[name].shape for name in decoder)
    if new_decoder:
        weights |= {name: own[name] for name in decoder}
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    shapes = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    if missing or unexpected or shapes:
        problems = [
            f"{len(names)} {what} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
            for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
            if names
        ]
        raise UserError(f"state_dict: weights {', '.join(problems)}; {_reason(own, weights)}")
    if new_decoder and to_train:
        warnings.warn(
            f"{SEGMENTATION}*: the weights have no segmentation decoder for this number of lanes; it starts afresh "
            "(only training uses it)",
            stacklevel=3,
        )
    model.load_state_dict(weights)


def load_fitting_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Copy those of `weights` into `model` that it has under the same name and shape; returns the names of the others.

    The others of the model keep their values. Raises UserError, and copies nothing, unless the whole backbone fits.
    """
    require_finite(weights)
    own = model.state_dict()
    weights = with_step_counters(own, weights)
    fitting = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
    left = [name for name in own if name not in fitting]
    if any(name.startswith(NETWORK_PREFIXES[0]) for name in left):
        raise UserError(f"state_dict: the backbone does not fit; {_reason(own, weights)}")
    model.load_state_dict(fitting, strict=False)
    return left


def with_step_counters(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the model's `own` step counters of batch norm to `weights` that lack them."""
    missing = {name: own[name] for name in own if name.endswith(STEP_COUNTER) and name not in weights}
    return {**weights, **missing}


def require_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise UserError that names the first weight with NaN or an infinite value; such a model finds no lanes."""
    for name, value in weights.items():
        if not value.is_floating_point() or not value.numel():
            continue
        low, high = torch.aminmax(value if value.dtype.itemsize > 2 else value.float())  # NaN if any value is NaN
        if not (low.isfinite() and high.isfinite()):
            raise UserError(
                f"state_dict: {name} is not finite: the training diverged, or the file is damaged; use an earlier one"
            )


def _reason(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """Name the likely reason why `weights` do not fit, and the setting to change."""
    stored, wanted = _backbone_name(weights), _backbone_name(own)
    if stored is None:
        return "these are not the weights of a CLRerNet, or the file is incomplete"
    if stored != wanted:
        return f"they belong to model.backbone.name={stored}, the configuration says {wanted}"
    for name, setting in SETTING_OF_WEIGHT.items():
        if name in weights and weights[name].shape != own[name].shape:
            return f"they belong to {setting}={weights[name].shape[0]}, the configuration says {own[name].shape[0]}"
    return "they belong to another configuration of model.head, or the file is incomplete"


def _backbone_name(weights: Mapping[str, Tensor]) -> str | None:
    """Recognise the backbone of `weights` by its names and shapes."""
    stored = {name: value.shape for name, value in weights.items()}
    with torch.device("meta"):
        for name in BACKBONES:
            shapes = build_backbone(BackboneConfig(name=name)).state_dict().items()
            if all(stored.get(f"backbone.{key}") == value.shape for key, value in shapes):
                return name
    return None
