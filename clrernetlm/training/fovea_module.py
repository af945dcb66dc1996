"""Defines the Lightning module of the fovea, which trains on top of a finished LaneLM."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from clrernetlm.config import Config
from clrernetlm.core.errors import UserError
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.models.lanelm.fovea.losses import FoveaTargets, fovea_losses
from clrernetlm.models.lanelm.fovea.network import FoveaInput
from clrernetlm.models.lanelm.postprocess import lanes_from_answers
from clrernetlm.training.base_module import Batch
from clrernetlm.training.data_module import LaneDataModule
from clrernetlm.training.fovea_data_module import crop_of, to_network_size
from clrernetlm.training.lanelm_module import DETECTOR_PREFIX, LaneLMModule
from clrernetlm.weights.build_models import load_lanelm_weights
from clrernetlm.weights.registry import weights_path


class FoveaModule(LaneLMModule):
    """Defines training and validation steps of the fovea; batches are those of `FoveaTrainingDataset`.

    Detector and LaneLM are those of `training.init_from`, and frozen.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model.requires_grad_(False)
        self.fovea.requires_grad_(True)

    @property
    def fovea(self) -> Any:
        """Return the network that is trained."""
        return cast(PromptableDetector, self.model).fovea

    def train(self, mode: bool = True) -> FoveaModule:
        """Set training or evaluation mode of the fovea; the rest stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        self.fovea.train(mode)
        return self

    def init_weights(self, data: LaneDataModule) -> None:
        """Load the weights of the LaneLM and the detector that the fovea is to refine."""
        start = self.config.training.init_from
        if start is None:
            raise UserError("training.init_from: not set; give the LaneLM that the fovea is to refine")
        load_lanelm_weights(self.model, weights_path(start), add_fovea=True)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the weighted losses of a batch."""
        parts = {name: value.flatten(0, 1) for name, value in batch.items() if isinstance(value, Tensor)}
        output = self.fovea(FoveaInput(parts["patches"], parts["rows"], parts["lane"]))
        targets = FoveaTargets(
            parts["offset"],
            parts["on_lane"],
            parts["seen"],
            parts["exists"],
            parts["type"],
            parts["colour"],
            parts["usable"],
        )
        return fovea_losses(output, targets)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return self.log_losses(self.losses(batch), len(batch["patches"]))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        config, metas = self.config.model, batch["metainfo"]
        if not metas:  # other processes have one more image
            return
        frames = [meta["frame_size"] for meta in metas]
        fine = batch["inputs"]
        output = self.model.run_detector(to_network_size(fine, config.viewport))
        crops = [crop_of(image.cpu(), config.viewport) for image in fine]
        answers = self.model.decode_unprompted(output, crops)
        lanes = lanes_from_answers(answers, self.config.lanelm.decode, config.viewport, frames, config.max_lanes)
        self.add_to_tally(lanes, metas)
        detected = decode_lanes(output.predictions, config.decode, config.viewport, frames, max_lanes=config.max_lanes)
        self.add_to_tally(detected, metas, DETECTOR_PREFIX)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """List the parameters to train: those of the fovea."""
        return [{"params": list(self.fovea.parameters())}]
