"""Fits the initial anchors to the training lanes, for short trainings."""

from __future__ import annotations

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from clrernetlm.core.viewport import FrameSize
from clrernetlm.datasets.culane import CulaneDataset
from clrernetlm.models.clrernet.targets import ROWS, THETA, VALID, X0, Y0

SAMPLES = 400  # images whose lanes are clustered


def fit_anchors(dataset: CulaneDataset, count: int, size: FrameSize, seed: int = 0) -> Tensor | None:
    """Cluster augmented training lanes by k-means to `count` initial anchors.

    Returns (count, 3) float32 y0, x0, theta in the anchors' relative units; None if the data has fewer lanes than
    anchors. Distances are measured in the units of the loss: rows, pixels of a `size` (width, height) input, degrees.
    The published anchors are spread evenly over the image's edges and need millions of images to move to the lanes;
    clusters begin there.
    """
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:SAMPLES]
    targets = np.concatenate([dataset[int(index)]["lanes"].numpy() for index in chosen])  # (lanes, 6 + R)
    lanes = targets[targets[:, VALID] == 1]
    if len(lanes) < count:
        return None
    y0, x0_px, theta = lanes[:, Y0], lanes[:, X0], lanes[:, THETA]
    last_row = targets.shape[1] - ROWS - 1
    scale = np.array([last_row, size[0] - 1, 180.0])
    starts = np.stack([y0, x0_px / (size[0] - 1), theta], axis=1) * scale
    centres, _ = kmeans2(starts.astype(np.float64), count, minit="++", seed=seed)
    return torch.from_numpy((centres / scale).astype(np.float32))
