"""LaneLM as Lightning trains it: lessons on the frozen detector's features, validation by decoding."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from clrernetlm.config import Config
from clrernetlm.core.errors import UserError
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.clrernet.preprocess import network_input
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.models.lanelm.losses import keypoint_sequences, training_request_losses
from clrernetlm.models.lanelm.plain import PlainLaneLMDetector
from clrernetlm.models.lanelm.postprocess import lanes_from_answers
from clrernetlm.models.lanelm.training_requests import build_training_requests
from clrernetlm.training.base_module import Batch, LaneModule
from clrernetlm.training.data_module import LaneDataModule
from clrernetlm.training.feature_cache import detector_features, stored
from clrernetlm.weights import weights_path
from clrernetlm.weights.build import build_lanelm, load_lanelm_weights
from clrernetlm.weights.checkpoint import load_weights

DETECTOR = "detector_"  # begins the names of the detector's own scores


class LaneLMModule(LaneModule):
    """Training and validation steps of LaneLM; batches are those of `LaneLMTrainingDataset`.

    Only the language model has gradients. Validation lets it write freely, and scores the detector beside it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config, tallies=("", DETECTOR))
        self.model = build_lanelm(config)

    def begin(self, data: LaneDataModule) -> None:
        """The detector's weights, and those of a LaneLM to go on from with its detector."""
        start, detector = self.config.training.init_from, self.config.lanelm.detector
        if start is not None:
            load_lanelm_weights(self.model, weights_path(start))
        elif detector is None:
            raise UserError("lanelm.detector: not set; give the CLRerNet checkpoint that LaneLM is to read")
        if detector is not None:
            load_weights(self.model.detector, weights_path(detector), to_train=False)

    def resume(self, data: LaneDataModule, saved: dict[str, Any], path: Path) -> None:
        """As for every training; another file named as detector must hold the weights of the checkpoint's detector.

        It may be gone: the checkpoint has them.
        """
        super().resume(data, saved, path)
        detector = self.config.lanelm.detector
        if detector is None or detector == saved["config"]["lanelm"]["detector"]:
            return
        file = Path(weights_path(detector))
        if not file.is_file():
            return
        named = deepcopy(self.model.detector)
        load_weights(named, file, to_train=False)
        mine = self.model.detector.state_dict()
        if not all(torch.equal(value, mine[name]) for name, value in named.state_dict().items()):
            raise UserError(
                f"lanelm.detector: {detector} is not the detector of {path}, which a resumed run keeps; leave it out, "
                "or begin another run"
            )

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        if "level_0" not in batch:
            batch = batch | detector_features(self.model, batch["inputs"])
        return self.log_losses(self.losses(batch), len(batch["lane_xs"]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Features, proposals, labels and draws of a batch -> the weighted losses of its lessons."""
        model, lessons_config = cast(PromptableDetector, self.model), self.config.lanelm.training_requests
        levels, proposals = stored(batch)
        lessons = build_training_requests(
            lessons_config, self.config.model.viewport.size, proposals, batch["lane_xs"], batch["draws"]
        )
        inputs, first, _ = keypoint_sequences(model.lanelm, lessons.inputs)
        logits, guides = model.lanelm(levels, lessons.requests, inputs, first)
        return training_request_losses(model.lanelm, lessons, logits, guides, lessons_config)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        model, metas = self.config.model, batch["metainfo"]
        if not metas:  # other processes have an image more
            return
        frames = [meta["frame_size"] for meta in metas]
        observation = self.model.run_detector(network_input(batch["inputs"]))
        answers = self.model.decode_unprompted(observation)
        self.count(
            lanes_from_answers(answers, self.config.lanelm.decode, model.viewport, frames, model.max_lanes), metas
        )
        detected = decode_lanes(observation.stage, model.decode, model.viewport, frames, max_lanes=model.max_lanes)
        self.count(detected, metas, DETECTOR)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The language model."""
        return [{"params": list(self.model.lanelm.parameters())}]


class PlainLaneLMModule(LaneLMModule):
    """The same for the plain reading: teacher forcing on the tokens of the labelled lanes."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Features and tokens of a batch -> the mean of both cross-entropies."""
        model, levels = cast(PlainLaneLMDetector, self.model), stored(batch)[0]
        return {"loss_tokens": model.loss(levels[0], batch["lane_tokens_x"], batch["lane_tokens_y"])}


MODULES: dict[str, type[LaneLMModule]] = {"full": LaneLMModule, "plain": PlainLaneLMModule}
