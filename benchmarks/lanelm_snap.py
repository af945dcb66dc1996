"""Control experiment for LaneLM: snaps the detector's lanes to the strongest response beside them, row by row.

The response is a linear map of the frozen detector's finest pyramid level, learned from the same proposals as LaneLM:
it has the features and the proposal, but no sequence, no context and no language model. Used by `lanelm_ablation.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clrernetlm.config import Config
from clrernetlm.datasets import collate
from clrernetlm.datasets.samplers import EpochKeyedDataset, EpochSampler
from clrernetlm.models.clrernet.detector import DetectorOutput
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase
from clrernetlm.models.lanelm.fovea.patches import FrameCrop
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.image_encoder import ChannelNorm
from clrernetlm.models.lanelm.losses import spread_cross_entropy
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.training_requests import lane_iou, match_one_to_one
from clrernetlm.training.feature_cache import feature_cache, unpack_features
from clrernetlm.training.lanelm_data_module import LaneLMTrainingDataset
from clrernetlm.weights.checkpoint import load_weights


class SnapReader(LaneLMDetectorBase):
    """The detector's lanes moved sideways, each row by the mean offset of a learned response around it."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        network, (self.width, self.height) = config.lanelm.network, config.model.viewport.size
        channels = config.model.head.feature_channels
        self.lanelm = nn.Sequential(ChannelNorm(channels), nn.Conv2d(channels, 1, 1))
        reach = network.offset_range * self.width
        self.offsets = torch.linspace(-reach, reach, network.offset_bins)
        self.rows = torch.arange(network.num_steps) * (self.height / network.num_steps)

    def responses(self, levels: tuple[Tensor, ...], xs: Tensor) -> Tensor:
        """Compute the response (B, P, T, offset bins) of pyramid levels at every offset from lanes of x (B, P, T)."""
        x = (xs[..., None] + self.offsets).flatten(1, 2)
        y = self.rows.repeat(xs.shape[1])[None, :, None].expand_as(x)
        grid = torch.stack([(x + 0.5) * 2 / self.width - 1, (y + 0.5) * 2 / self.height - 1], dim=-1)
        offsets: Tensor = F.grid_sample(self.lanelm(levels[0]), grid, align_corners=False)[:, 0].unflatten(
            1, xs.shape[1:]
        )
        return offsets

    @torch.no_grad()
    def decode_unprompted(self, output: DetectorOutput, crops: Sequence[FrameCrop] | None = None) -> Answers:
        """Snap the detector's lanes; their scores are the detector's confidence."""
        proposals = self.propose(output.predictions)
        moves = self.responses(output.levels, proposals.xs).softmax(-1) @ self.offsets
        return Answers(proposals.xs + moves, proposals.visible, proposals.scores)

    def loss(self, levels: tuple[Tensor, ...], proposals: Proposals, labels: Tensor, threshold: float) -> Tensor:
        """Compute the cross-entropy of the true offsets of proposals that match a label (B, M, T), NaN off the lane."""
        exists, steps = labels.isfinite(), labels.shape[-1]
        iou = lane_iou(proposals.xs / self.width, proposals.visible, labels.nan_to_num(0) / self.width, exists)
        matched = match_one_to_one(iou, threshold)
        truth = labels.gather(1, matched.clamp(min=0)[..., None].expand(-1, -1, steps))
        counted = (matched >= 0)[..., None] & proposals.visible & truth.isfinite()
        last = len(self.offsets) - 1
        bin_position = (truth.nan_to_num(0) - proposals.xs) / (self.offsets[-1] - self.offsets[0]) * last + last / 2
        losses = spread_cross_entropy(
            self.responses(levels, proposals.xs), bin_position, self.config.lanelm.training_requests.label_sigma
        )
        return (losses * counted).sum() / counted.sum().clamp(min=1)


def train_snap(config: Config) -> SnapReader:
    """Train a `SnapReader` for `config.training.epochs` epochs on the cached features."""
    torch.manual_seed(config.training.seed)
    model = SnapReader(config)
    assert config.lanelm.detector is not None
    load_weights(model.detector, config.lanelm.detector)
    data = LaneLMTrainingDataset(config)
    data.cache = feature_cache(config, data.images, model, torch.device("cpu"))
    sampler = EpochSampler(len(data), config.data.batch_size, seed=config.training.seed)
    loader = DataLoader(EpochKeyedDataset(data), batch_sampler=sampler, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.lanelm.parameters(), lr=1e-2)
    for epoch in range(config.training.epochs):
        sampler.set_epoch(epoch)
        for batch in loader:
            loss = model.loss(*unpack_features(batch), batch["lane_xs"], config.lanelm.training_requests.match_iou)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()
