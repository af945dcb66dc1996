"""Turns lanes that are probably in an image, such as those of the frame before, into proposals for LaneLM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.models.clrernet.detector import DetectorOutput
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.tokenizer import LaneTokenizer, LaneTokenizerConfig


def proposals_of_lanes(lanes: Sequence[Lane], viewport: Viewport, frame: FrameSize, num_steps: int) -> Proposals:
    """Sample lanes of one image, in frame pixels, on LaneLM's rows inside the viewport; their scores are unknown.

    A score of the frame before would confirm itself from frame to frame. Lanes on fewer than two rows stay empty.
    """
    tokenizer = LaneTokenizer(LaneTokenizerConfig(viewport.width, viewport.height, num_steps, viewport.width))
    xs = tokenizer.lane_rows([viewport.to_network(lane.points, frame) for lane in lanes], extend_bottom=True)
    visible = (xs >= 0) & (xs < viewport.width)  # False for NaN
    visible &= visible.sum(axis=1, keepdims=True) > 1
    return Proposals(
        torch.from_numpy(np.nan_to_num(xs).astype(np.float32))[None],
        torch.from_numpy(visible)[None],
        torch.full((1, len(lanes)), torch.nan),
    )


def first_image(output: DetectorOutput) -> DetectorOutput:
    """Select the first image of a batch."""
    return DetectorOutput(
        tuple(level[:1] for level in output.levels), {name: value[:1] for name, value in output.predictions.items()}
    )
