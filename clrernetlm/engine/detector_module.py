"""CLRerNet as Lightning trains it: loss per batch, CULane metric per validation, AdamW with a cosine schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from clrernetlm import __version__
from clrernetlm.config import Config
from clrernetlm.config.serialization import to_dict
from clrernetlm.engine.schedule import adamw_cosine
from clrernetlm.engine.validation import ValidationTally
from clrernetlm.models.clrernet import CLRerNet
from clrernetlm.models.criterion import CLRerNetCriterion
from clrernetlm.models.decode import decode_lanes

Batch = dict[str, Any]


def network_input(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 BGR -> float32 in [0, 1]; converted on the device, so that a quarter of the bytes travel."""
    return images.float().div_(255)


class DetectorModule(pl.LightningModule):
    """Training and validation steps of CLRerNet.

    Batches are those of `clrernetlm.data.collate`: `inputs` (B, 3, H, W) uint8, `lanes` (B, max_lanes, 78) float32 and,
    where the data has them, `masks` (B, H, W) uint8.
    """

    def __init__(self, config: Config, segments: bool = True) -> None:
        """`segments`: train the segmentation branch; it needs masks in the batches and a loss weight."""
        super().__init__()
        self.config = config
        self.segments = segments and config.model.loss.seg_weight > 0
        self.model = CLRerNet(config.model)
        # Distributed training waits for the gradient of every parameter that could have one.
        self.model.bbox_head.seg_decoder.requires_grad_(self.segments)
        self.criterion = CLRerNetCriterion(
            loss=config.model.loss,
            assigner=config.model.assigner,
            image_size=config.model.viewport.size,
            max_lanes=config.model.max_lanes,
        )
        self.validation = ValidationTally(config.evaluation)

    def train(self, mode: bool = True) -> DetectorModule:
        """Training or evaluation mode; the backbone's BatchNorm stays in evaluation where the settings freeze it."""
        super().train(mode)
        if self.config.training.freeze_backbone_norm:
            for layer in self.model.backbone.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        features = self.model.extract_feat(network_input(batch["inputs"]))
        losses = self.criterion(
            self.model.bbox_head(features),
            batch["lanes"],
            seg_logits=self.model.segment(features) if self.segments else None,
            masks=batch["masks"] if self.segments else None,
        )
        total = torch.stack(list(losses.values())).sum()
        size = len(batch["inputs"])
        parts = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log("loss", total.detach(), prog_bar=True, batch_size=size, sync_dist=True)
        self.log_dict(parts, batch_size=size, sync_dist=True)
        return total

    def on_validation_epoch_start(self) -> None:
        self.validation.reset()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        stages = self.model(network_input(batch["inputs"]))
        metas = batch["metainfo"]
        lanes = decode_lanes(
            stages[-1],
            self.config.model.decode,
            self.config.model.viewport,
            [meta["frame_size"] for meta in metas],
            max_lanes=self.config.model.max_lanes,
        )
        root = Path(self.config.data.root)
        for meta, found in zip(metas, lanes, strict=True):
            self.validation.add(found, root / meta["path"].lstrip("/"), meta["frame_size"])

    def on_validation_epoch_end(self) -> None:
        def add_up(counts: Tensor) -> Tensor:
            return self.trainer.strategy.reduce(counts.to(self.device), reduce_op="sum")

        for name, value in self.validation.scores(add_up).items():
            self.log(f"val/{name}", value, prog_bar=name == "F1@50", rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        settings = self.config.training
        backbone = list(self.model.backbone.parameters())
        rest = [*self.model.neck.parameters(), *self.model.bbox_head.parameters()]
        groups: list[dict[str, Any]] = [
            {"params": backbone, "lr": settings.learning_rate * settings.backbone_rate},
            {"params": [parameter for parameter in rest if parameter.requires_grad]},
        ]
        return adamw_cosine(groups, settings, int(self.trainer.estimated_stepping_batches))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = to_dict(self.config)
        checkpoint["clrernetlm_version"] = __version__
