"""CLRerNet as Lightning trains it: loss per batch, CULane metric per validation, AdamW with a cosine schedule."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from clrernetlm import __version__
from clrernetlm.config import Config
from clrernetlm.config.serialization import to_dict
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

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.model = CLRerNet(config.model)
        self.criterion = CLRerNetCriterion(
            loss=config.model.loss,
            assigner=config.model.assigner,
            image_size=config.model.viewport.size,
            max_lanes=config.model.max_lanes,
        )
        self.validation = ValidationTally(config.evaluation)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        features = self.model.extract_feat(network_input(batch["inputs"]))
        masks = batch.get("masks") if self.config.model.loss.seg_weight else None
        losses = self.criterion(
            self.model.bbox_head(features),
            batch["lanes"],
            seg_logits=None if masks is None else self.model.segment(features),
            masks=masks,
        )
        total = torch.stack(list(losses.values())).sum()
        size = len(batch["inputs"])
        self.log("loss", total, prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=size)
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
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = min(settings.warmup_steps, total - 1)

        def factor(step: int) -> float:
            """Linear from near 0 over `warmup` steps, then half a cosine down to 0 at the last step."""
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = to_dict(self.config)
        checkpoint["clrernetlm_version"] = __version__
