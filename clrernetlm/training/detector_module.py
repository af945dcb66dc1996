"""Trains CLRerNet with Lightning: loss per batch, CULane metric per validation, AdamW."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from clrernetlm.config import Config
from clrernetlm.models.clrernet.criterion import CLRerNetCriterion
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.clrernet.lane_iou import CULANE_CROP_SIZE
from clrernetlm.models.clrernet.state_dict import ANCHORS
from clrernetlm.models.layers import to_channels_last
from clrernetlm.models.pixel_scaling import network_input
from clrernetlm.training.anchor_fitting import fit_anchors
from clrernetlm.training.base_module import Batch, LaneModule
from clrernetlm.training.data_module import LaneDataModule
from clrernetlm.weights.checkpoint import start_from_weights
from clrernetlm.weights.imagenet import load_pretrained
from clrernetlm.weights.registry import weights_path


class DetectorModule(LaneModule):
    """Training and validation steps of CLRerNet.

    Batches are those of `clrernetlm.datasets.collate`: `inputs` (B, 3, H, W) uint8, `lanes` (B, max_lanes, 78) float32
    and, if the data has them, `masks` (B, H, W) uint8.
    """

    def __init__(self, config: Config, segments: bool = True) -> None:
        """Build the network; `segments`: with the segmentation branch, which needs masks and a loss weight."""
        super().__init__(config)
        self.segments = segments and config.model.loss.seg_weight > 0
        self.model = CLRerNet(config.model)
        to_channels_last(self.model)
        # Distributed training waits for the gradient of every parameter that could have one.
        self.model.bbox_head.seg_decoder.requires_grad_(self.segments)
        if config.training.freeze_stem:
            for layer in self.model.backbone.stem():
                layer.requires_grad_(False)
        self.criterion = CLRerNetCriterion(
            loss=config.model.loss,
            assigner=config.model.assigner,
            image_size=config.model.viewport.size,
            max_lanes=config.model.max_lanes,
            crop_size=config.model.viewport.size if config.model.loss.iou_frame == "viewport" else CULANE_CROP_SIZE,
        )
        self.train()  # Lightning leaves the mode of every layer as it finds it

    def train(self, mode: bool = True) -> DetectorModule:
        """Training or evaluation mode; the backbone's BatchNorm stays in evaluation where the settings freeze it."""
        super().train(mode)
        if self.config.training.freeze_backbone_norm:
            for layer in self.model.backbone.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        if self.config.training.freeze_stem:
            for layer in self.model.backbone.stem():
                layer.eval()
        return self

    def init_weights(self, data: LaneDataModule) -> None:
        """Weights to go on from, or ImageNet's, and anchors where lanes are."""
        start = self.config.training.init_from
        left = None if start is None else start_from_weights(self.model, weights_path(start))
        if left is None and self.config.model.backbone.pretrained:
            load_pretrained(self.model.backbone, self.config.model.backbone)
        if self.config.training.fit_anchors and (left is None or ANCHORS in left):
            anchors = self.model.bbox_head.anchor_generator.prior_embeddings.weight
            size, seed = self.config.model.viewport.size, self.config.training.seed
            fitted = fit_anchors(data.images, len(anchors), size, seed)
            if fitted is not None:
                anchors.data.copy_(fitted)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        features = self.model.extract_feat(network_input(batch["inputs"]))
        losses = self.criterion(
            self.model.bbox_head(features),
            batch["lanes"],
            seg_logits=self.model.segment(features) if self.segments else None,
            masks=batch["masks"] if self.segments else None,
        )
        return self.log_losses(losses, len(batch["inputs"]))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        metas = batch["metainfo"]
        if not metas:  # other processes have an image more
            return
        stages = self.model(network_input(batch["inputs"]))
        lanes = decode_lanes(
            stages[-1],
            self.config.model.decode,
            self.config.model.viewport,
            [meta["frame_size"] for meta in metas],
            max_lanes=self.config.model.max_lanes,
        )
        self.add_to_tally(lanes, metas)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return two parameter groups: the backbone, and pyramid with head."""
        settings = self.config.training
        backbone = [parameter for parameter in self.model.backbone.parameters() if parameter.requires_grad]
        rest = [*self.model.neck.parameters(), *self.model.bbox_head.parameters()]
        return [
            {"params": backbone, "lr": settings.learning_rate * settings.backbone_lr_scale},
            {"params": [parameter for parameter in rest if parameter.requires_grad]},
        ]
