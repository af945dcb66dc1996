"""Lightning modules of LaneLM: training on the frozen detector's features, validation by greedy decoding."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from clrernetlm.config import Config
from clrernetlm.core.errors import UserError
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.models.lanelm.losses import keypoint_sequences, training_request_losses
from clrernetlm.models.lanelm.postprocess import lanes_from_answers
from clrernetlm.models.lanelm.prototype import PlainLaneLMDetector
from clrernetlm.models.lanelm.training_requests import build_training_requests
from clrernetlm.training.base_module import Batch, LaneModule
from clrernetlm.training.data_module import LaneDataModule
from clrernetlm.training.feature_cache import detector_features, unpack_features
from clrernetlm.weights.build_models import build_lanelm, load_lanelm_weights
from clrernetlm.weights.checkpoint import load_weights
from clrernetlm.weights.registry import weights_path

DETECTOR_PREFIX = "detector_"  # prefix of the names of the detector's own scores


class LaneLMModule(LaneModule):
    """Defines training and validation steps of LaneLM; batches are those of `LaneLMTrainingDataset`.

    Only the language model has gradients. Validation decodes without teacher forcing, and scores the detector too.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config, tallies=("", DETECTOR_PREFIX))
        self.model = build_lanelm(config)

    def init_weights(self, data: LaneDataModule) -> None:
        """Load the detector's weights, or with `training.init_from` those of a LaneLM and its detector."""
        start, detector = self.config.training.init_from, self.config.lanelm.detector
        if start is not None:
            load_lanelm_weights(self.model, weights_path(start))
        elif detector is None:
            raise UserError("lanelm.detector: not set; give the CLRerNet checkpoint that LaneLM is to read")
        if detector is not None:
            load_weights(self.model.detector, weights_path(detector), to_train=False)

    def resume(self, data: LaneDataModule, saved: dict[str, Any], path: Path) -> None:
        """Restore a checkpoint; another file in `lanelm.detector` must hold the weights of the checkpoint's detector.

        That file may be missing: the checkpoint contains the weights.
        """
        super().resume(data, saved, path)
        detector = self.config.lanelm.detector
        if detector is None or detector == saved["config"]["lanelm"]["detector"]:
            return
        file = Path(weights_path(detector))
        if not file.is_file():
            return
        configured = deepcopy(self.model.detector)
        load_weights(configured, file, to_train=False)
        restored = self.model.detector.state_dict()
        if not all(torch.equal(value, restored[name]) for name, value in configured.state_dict().items()):
            raise UserError(
                f"lanelm.detector: {detector} is not the detector of {path}, which a resumed run keeps; leave it out, "
                "or begin another run"
            )

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        if "level_0" not in batch:
            batch = batch | detector_features(self.model, batch["inputs"])
        return self.log_losses(self.losses(batch), len(batch["lane_xs"]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the weighted losses of a batch: features, proposals, labels and random numbers."""
        model, config = cast(PromptableDetector, self.model), self.config.lanelm.training_requests
        levels, proposals = unpack_features(batch)
        image_size = self.config.model.viewport.size
        training = build_training_requests(config, image_size, proposals, batch["lane_xs"], batch["draws"])
        inputs, first_rows, _ = keypoint_sequences(model.lanelm, training.inputs)
        logits, row_priors = model.lanelm(levels, training.requests, inputs, first_rows)
        return training_request_losses(model.lanelm, training, logits, row_priors, config)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        model, metas = self.config.model, batch["metainfo"]
        if not metas:  # other processes have one more image
            return
        frames = [meta["frame_size"] for meta in metas]
        output = self.model.run_detector(batch["inputs"])
        answers = self.model.decode_unprompted(output)
        lanes = lanes_from_answers(answers, self.config.lanelm.decode, model.viewport, frames, model.max_lanes)
        self.add_to_tally(lanes, metas)
        detected = decode_lanes(output.predictions, model.decode, model.viewport, frames, max_lanes=model.max_lanes)
        self.add_to_tally(detected, metas, DETECTOR_PREFIX)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """List the parameters to train: those of the language model."""
        return [{"params": list(self.model.lanelm.parameters())}]


class PlainLaneLMModule(LaneLMModule):
    """Defines the same for the plain variant: teacher forcing on the tokens of the labelled lanes."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the mean of both cross-entropies from the features and tokens of a batch."""
        model, levels = cast(PlainLaneLMDetector, self.model), unpack_features(batch)[0]
        return {"loss_tokens": model.loss(levels[0], batch["lane_tokens_x"], batch["lane_tokens_y"])}


MODULES: dict[str, type[LaneLMModule]] = {"full": LaneLMModule, "plain": PlainLaneLMModule}
