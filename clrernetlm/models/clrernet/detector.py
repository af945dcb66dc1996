"""CLRerNet: backbone, pyramid and head in one module (Honda and Uchida, WACV 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clrernetlm.config.schema import ClrernetConfig
from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.core.errors import UserError
from clrernetlm.models.backbones.registry import build_backbone
from clrernetlm.models.clrernet.fpn import CLRerNetFPN
from clrernetlm.models.clrernet.head import PYRAMID_LEVELS, CLRerHead, Stage
from clrernetlm.models.clrernet.state_dict import load_network_weights, network_weights, official_state_dict

COARSEST_STRIDE = 32


class CLRerNet(nn.Module):
    """Images (B, 3, height, width), BGR, float in [0, 1], of the viewport's size -> predictions of every stage.

    `forward` returns the list of dicts described at `CLRerHead`; the last one is the detection. `segment` is for
    training. Building a model downloads nothing. Raises UserError when the viewport is no multiple of 32 pixels.
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
        self.pyramid_dtype = torch.float32  # of the weights of backbone and neck; `fusing.fuse` changes it
        self.backbone = build_backbone(config.backbone)
        self.neck = CLRerNetFPN(self.backbone.out_channels[-PYRAMID_LEVELS:], config.head.feature_channels)
        self.bbox_head = CLRerHead(config.head, config.viewport.size, config.max_lanes)

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> (B, C, H/s, W/s) for s = 8, 16, 32. Raises UserError for input of another shape or type."""
        width, height = self.config.viewport.size
        if images.ndim != 4 or images.shape[1:] != (3, height, width):
            raise UserError(
                f"images: shape {tuple(images.shape)}, but this model takes (batch, 3, {height}, {width}); "
                "resize, or set model.viewport"
            )
        if not images.is_floating_point():
            raise UserError(f"images: {images.dtype}, but this model takes floats in [0, 1]; divide by 255")
        if self.pyramid_dtype == torch.float32:
            return self.neck(self.backbone(images))
        levels = self.neck(self.backbone(images.to(self.pyramid_dtype)))
        return tuple(level.float() for level in levels)

    def segment(self, features: tuple[Tensor, ...]) -> Tensor:
        """Pyramid levels -> (B, max_lanes + 1, H, W) logits of background and lanes."""
        return self.bbox_head.seg_decoder(features)

    def forward(self, images: Tensor) -> list[Stage]:
        return self.bbox_head(self.extract_feat(images))

    def official_state_dict(self) -> dict[str, Tensor]:
        """Weights under the names, shapes and order of the published checkpoints (305 entries for DLA-34)."""
        return official_state_dict(self, self.config)

    def load_official_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take weights under the names of the published checkpoints, bare or in one of `HOLDERS`.

        Raises UserError that names the first misfits and the likely reason; the model is then as it was.
        """
        load_network_weights(self, network_weights(state))
