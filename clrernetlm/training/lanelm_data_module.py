"""Training data of LaneLM: images, or the detector's features of them, with labels and random numbers for requests."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from clrernetlm.config import Config
from clrernetlm.datasets import build_dataset
from clrernetlm.datasets.culane import CulaneDataset
from clrernetlm.datasets.lanelm_formatting import lane_packing
from clrernetlm.datasets.transforms import Sample
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase
from clrernetlm.models.lanelm.training_requests import DRAWS, num_candidates
from clrernetlm.training.data_module import LaneDataModule
from clrernetlm.training.feature_cache import FeatureCache, feature_cache


class LaneLMTrainingDataset(Dataset[Sample]):
    """Training samples of LaneLM: those of `PackLaneLMInputs`, or stored features instead of `inputs`, with `draws`.

    With `lanelm.cached_augmentations` every image has that many augmentations, used in turn; only then can features
    come from a cache. `draws`, the random numbers of the training requests, are new every epoch. Item i of epoch e is a
    function of (seed, e, i).
    """

    def __init__(self, config: Config, cache: FeatureCache | None = None) -> None:
        self.images: CulaneDataset = build_dataset(config, "train", pack=lane_packing(config))
        self.augmentations, self.seed, self.cache = config.lanelm.cached_augmentations, config.training.seed, cache
        candidates = num_candidates(config.lanelm.decode.max_proposals, config.model.max_lanes)
        self.draws_shape = candidates, DRAWS + config.lanelm.network.num_steps
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.images)

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmentation and the random numbers of the next items."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        augmentation = self.epoch % self.augmentations if self.augmentations else self.epoch
        if self.cache is not None:
            sample = self.cache.read(augmentation, index)
        else:
            self.images.set_epoch(augmentation)
            sample = self.images[index]
        rng = np.random.default_rng((self.seed, self.epoch, index, 1))
        return sample | {"draws": torch.from_numpy(rng.random(self.draws_shape, np.float32))}


class LaneLMDataModule(LaneDataModule):
    """Loads LaneLM's training and validation data; `model` holds the detector whose features may be cached on disk.

    Its weights must be loaded before training begins. Raises UserError as `LaneDataModule` and `feature_cache` do.
    """

    def __init__(self, config: Config, model: LaneLMDetectorBase) -> None:
        self.training_data = LaneLMTrainingDataset(config)
        self.model = model
        super().__init__(config, self.training_data.images, self.training_data)

    def prepare_data(self) -> None:
        """Build the feature cache, if one is configured, in one process of each machine; the others wait."""
        assert self.trainer is not None
        feature_cache(self.config, self.images, self.model, self.trainer.strategy.root_device)

    def setup(self, stage: str) -> None:
        """Open the feature cache in every process."""
        self.training_data.cache = feature_cache(self.config, self.images, self.model)
