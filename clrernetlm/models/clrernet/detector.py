"""Defines CLRerNet: backbone, feature pyramid and head in one module (Honda and Uchida, WACV 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clrernetlm.config.schema import ClrernetConfig
from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.core.errors import UserError
from clrernetlm.models.backbones.registry import build_backbone
from clrernetlm.models.clrernet.fpn import CLRerNetFPN
from clrernetlm.models.clrernet.head import PYRAMID_LEVELS, CLRerHead, StageOutput
from clrernetlm.models.clrernet.state_dict import load_network_weights, network_weights, official_state_dict
from clrernetlm.models.pixel_scaling import network_input

COARSEST_STRIDE = 32


@dataclass
class DetectorOutput:
    """Features and predictions of the detector for B images."""

    levels: tuple[Tensor, ...]  # pyramid (B, C, h, w), finest first; empty for an exported graph without it
    predictions: StageOutput  # of the last refinement stage


class CLRerNet(nn.Module):
    """Predict lanes in images (B, 3, height, width), BGR, float in [0, 1], of the viewport's size.

    `forward` returns one dict per refinement stage, described at `CLRerHead`; the last one is the detection. `segment`
    is for training. Building a model downloads nothing. Raises UserError if the viewport is no multiple of 32 pixels.
    """

    @check_arguments
    def __init__(self, config: ClrernetConfig) -> None:
        super().__init__()
        width, height = config.viewport.size
        if width % COARSEST_STRIDE or height % COARSEST_STRIDE:
            nearest = "x".join(str(max(round(side / 32), 1) * 32) for side in (width, height))
            raise UserError(f"model.viewport: {width}x{height} is not a multiple of 32 in both; use {nearest}")
        if config.max_lanes < 1:
            raise UserError(f"model.max_lanes: {config.max_lanes} lanes; use at least 1")
        self.config = config
        self.pyramid_dtype = torch.float32  # dtype of the weights of backbone and neck; changed by `fusing.fuse`
        self.backbone = build_backbone(config.backbone)
        self.neck = CLRerNetFPN(self.backbone.out_channels[-PYRAMID_LEVELS:], config.head.feature_channels)
        self.bbox_head = CLRerHead(config.head, config.viewport.size, config.max_lanes)

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        """Extract pyramid levels (B, C, H/s, W/s), s = 8, 16, 32. Raises UserError for a wrong shape or type."""
        width, height = self.config.viewport.size
        if images.ndim != 4 or images.shape[1:] != (3, height, width):
            raise UserError(
                f"images: shape {tuple(images.shape)}, but this model takes (batch, 3, {height}, {width}); "
                "resize, or set model.viewport"
            )
        if not images.is_floating_point():
            raise UserError(f"images: {images.dtype}, but this model takes floats in [0, 1]; divide by 255")
        levels: tuple[Tensor, ...]
        if self.pyramid_dtype == torch.float32:
            levels = self.neck(self.backbone(images))
            return levels
        levels = self.neck(self.backbone(images.to(self.pyramid_dtype)))
        return tuple(level.float() for level in levels)

    def run(self, images: Tensor) -> DetectorOutput:
        """Run the network on cropped images (B, 3, H, W) BGR: uint8 on any device, or floats in [0, 1] on the model's.

        Raises UserError for images of another size.
        """
        if images.dtype == torch.uint8:
            images = network_input(images.to(next(self.parameters()).device, non_blocking=True))
        levels = self.extract_feat(images)
        return DetectorOutput(levels, self.bbox_head(levels)[-1])

    def segment(self, features: tuple[Tensor, ...]) -> Tensor:
        """Compute (B, max_lanes + 1, H, W) logits of background and lanes from the pyramid levels."""
        logits: Tensor = self.bbox_head.seg_decoder(features)
        return logits

    def forward(self, images: Tensor) -> list[StageOutput]:
        stages: list[StageOutput] = self.bbox_head(self.extract_feat(images))
        return stages

    def official_state_dict(self) -> dict[str, Tensor]:
        """Return the weights with the names, shapes and order of the published checkpoints (305 entries for DLA-34)."""
        return official_state_dict(self, self.config)

    def load_official_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load weights under the names of the published checkpoints, bare or under one of `WEIGHT_KEYS`.

        Raises UserError that names the first mismatches and the likely reason; the model is then unchanged.
        """
        load_network_weights(self, network_weights(state))
