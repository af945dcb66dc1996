"""Registry of backbones by name. All take (B, 3, H, W) BGR in [0, 1] and return maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Callable

from clrernetlm.config.schema import BackboneConfig, BackboneName
from clrernetlm.core.errors import UserError
from clrernetlm.models.backbones.dla import DLANet, dla34, dla46_c
from clrernetlm.models.backbones.efficientnet_lite import EfficientNetLite0, efficientnet_lite0
from clrernetlm.models.backbones.resnet import ResNet, resnet18, resnet34, resnet50

Backbone = DLANet | ResNet | EfficientNetLite0

BACKBONES: dict[BackboneName, Callable[[], Backbone]] = {
    "dla34": dla34,
    "dla46_c": dla46_c,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "efficientnet_lite0": efficientnet_lite0,
}


def build_backbone(config: BackboneConfig) -> Backbone:
    """Build a backbone with random weights; `clrernetlm.weights.imagenet` loads ImageNet's. Raises UserError."""
    if config.name not in BACKBONES:
        raise UserError(f"model.backbone.name: unknown backbone {config.name!r}; choose one of {', '.join(BACKBONES)}")
    return BACKBONES[config.name]()
