"""LaneLM as Lightning trains it: lessons from the frozen detector's proposals, validation by decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from clrernetlm import __version__
from clrernetlm.config import Config
from clrernetlm.config.serialization import to_dict
from clrernetlm.engine.detector_module import Batch, network_input
from clrernetlm.engine.feature_cache import observed_sample, stored
from clrernetlm.engine.schedule import adamw_cosine
from clrernetlm.engine.validation import ValidationTally
from clrernetlm.models.decode import decode_lanes
from clrernetlm.models.lanelm.asking import ask_about_lanes
from clrernetlm.models.lanelm.lessons import build_lessons
from clrernetlm.models.lanelm.losses import lesson_losses, pack_answers
from clrernetlm.models.lanelm.promptable import PromptableDetector
from clrernetlm.models.lanelm.results import answered_lanes


class LaneLMModule(pl.LightningModule):
    """Training and validation steps of LaneLM; batches are those of `LessonDataset`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.model = PromptableDetector(config)
        self.validation = ValidationTally(config.evaluation)
        self.detector_validation = ValidationTally(config.evaluation)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        lessons_config, lanelm = self.config.lanelm.lessons, self.model.lanelm
        if "level_0" not in batch:
            batch = batch | observed_sample(self.model, batch, self.device, lessons_config.proposal_threshold)
        levels, proposals = stored(batch)
        size = self.config.model.viewport.size
        lessons = build_lessons(lessons_config, size, proposals, batch["lane_xs"], batch["draws"])
        inputs, first, _ = pack_answers(lanelm, lessons.inputs)
        logits, guides = lanelm(levels, lessons.requests, inputs, first)
        losses = lesson_losses(lanelm, lessons, logits, guides, lessons_config)
        total = torch.stack(list(losses.values())).sum()
        size_of_batch = len(batch["lane_xs"])
        self.log("loss", total.detach(), prog_bar=True, batch_size=size_of_batch, sync_dist=True)
        parts = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(parts, batch_size=size_of_batch, sync_dist=True)
        return total

    def on_validation_epoch_start(self) -> None:
        self.validation.reset()
        self.detector_validation.reset()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        config = self.config
        observation = self.model.observe(network_input(batch["inputs"]))
        answers = self.model.answer(observation.levels, ask_about_lanes(self.model.propose(observation.stage)))
        metas = batch["metainfo"]
        frames = [meta["frame_size"] for meta in metas]
        viewport, max_lanes = config.model.viewport, config.model.max_lanes
        lanes = answered_lanes(answers, config.lanelm.decode, viewport, frames, max_lanes)
        detected = decode_lanes(observation.stage, config.model.decode, viewport, frames, max_lanes=max_lanes)
        root = Path(config.data.root)
        for meta, answered, found in zip(metas, lanes, detected, strict=True):
            image = root / meta["path"].lstrip("/")
            self.validation.add(answered, image, meta["frame_size"])
            self.detector_validation.add(found, image, meta["frame_size"])

    def on_validation_epoch_end(self) -> None:
        def add_up(counts: Tensor) -> Tensor:
            return self.trainer.strategy.reduce(counts.to(self.device), reduce_op="sum")

        for name, value in self.validation.scores(add_up).items():
            self.log(f"val/{name}", value, prog_bar=name == "F1@50", rank_zero_only=True)
        for name, value in self.detector_validation.scores(add_up).items():
            self.log(f"val/detector_{name}", value, rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        groups = [{"params": list(self.model.lanelm.parameters())}]
        return adamw_cosine(groups, self.config.training, int(self.trainer.estimated_stepping_batches))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = to_dict(self.config)
        checkpoint["clrernetlm_version"] = __version__
