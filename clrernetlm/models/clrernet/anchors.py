"""Defines the anchors, learnable straight lines, and computes their x on the rows of lanes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clrernetlm.core.errors import UserError

ANGLE_EPSILON = 1e-5  # radians; keeps the tangent of a horizontal line finite


def row_heights(num_points: int) -> Tensor:
    """Return the (num_points,) relative heights of a lane's rows: 1 (bottom of the image) down to 0 (top)."""
    return torch.linspace(1, 0, num_points)


def sample_rows(num_points: int, sample_points: int) -> Tensor:
    """Return the (sample_points,) int64 rows, bottom first, at whose x features are pooled."""
    last = num_points - 1
    return (torch.linspace(0, 1, sample_points) * last).long()


def sample_heights(num_points: int, sample_points: int) -> Tensor:
    """Return the (sample_points,) relative heights at which features are pooled, for the x of `sample_rows`."""
    return (sample_rows(num_points, sample_points).float() / (num_points - 1)).flip(0)


def initial_anchors(num_priors: int) -> Tensor:
    """Return initial anchors (num_priors, 3) y0, x0, theta: 1/8 start on the left edge, 3/4 at the bottom, 1/8 right.

    y0 and x0 are fractions of height and width, theta is the angle / pi. Side anchors start in pairs at heights from
    the bottom to the middle of the image; bottom anchors stand in groups of four angles.
    """
    side = num_priors // 8
    bottom = num_priors - 2 * side
    climb = 1 - torch.arange(side).div(2, rounding_mode="floor") * (0.5 / max(side // 2 - 1, 1))
    even = torch.arange(side) % 2 == 0
    group = torch.arange(bottom).div(4, rounding_mode="floor")

    left = torch.stack([climb, torch.zeros(side), torch.where(even, 0.16, 0.32)], dim=1)
    middle = torch.stack(
        [torch.ones(bottom), (group + 1) / (math.ceil(bottom / 4) + 1), 0.2 * (torch.arange(bottom) % 4 + 1)], dim=1
    )
    right = torch.stack([climb, torch.ones(side), torch.where(even, 0.68, 0.84)], dim=1)
    return torch.cat([left, middle, right])  # (num_priors, 3)


class CLRerNetAnchorGenerator(nn.Module):
    """Hold learnable anchors y0, x0, theta, and compute their lines on an image of `image_size` (width, height) pixels.

    Raises UserError for fewer than 8 anchors or 2 rows. Source: CLRNet (Zheng et al., CVPR 2022), section 3.1.
    """

    def __init__(self, num_priors: int, num_points: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        if num_priors < 8:
            raise UserError(f"model.head.num_priors: {num_priors} anchors do not cover the three edges; use at least 8")
        if num_points < 2:
            raise UserError(f"model.head.num_points: {num_points} rows make no line; use at least 2")
        self.image_size = image_size
        self.prior_embeddings = nn.Embedding(num_priors, 3)
        with torch.no_grad():
            self.prior_embeddings.weight.copy_(initial_anchors(num_priors))

    def lines(self, parameters: Tensor, heights: Tensor) -> Tensor:
        """Compute x at (R,) relative heights of lines (..., 3) y0, x0, theta -> (..., R).

        x is relative: 0 is the centre of the first column of pixels, 1 that of the last.
        """
        width, height = self.image_size
        y0, x0, theta = parameters.unsqueeze(-2).unbind(-1)  # (..., 1) each
        run = (heights - y0) * height / torch.tan(theta * math.pi + ANGLE_EPSILON)  # (..., R) pixels
        return (x0 * (width - 1) - run) / (width - 1)
