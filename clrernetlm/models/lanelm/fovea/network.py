"""Defines the fovea's network: patches along lanes in; offsets, ends, visibility and words out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_attributes import COLOUR_CODES, TYPE_CODES
from clrernetlm.models.lanelm.fovea.patches import COLUMNS, ROWS_PER_STEP, row_reach
from clrernetlm.models.lanelm.fovea.reference import Clicks, row_weights

OFFSETS = 49  # bins of the offset from the reference, from one edge of the patch to the other
ROW_FEATURES, LANE_FEATURES = 11, 4
COLUMN_CHANNELS = 32  # of the features that keep the patch's columns
NUM_TYPES, NUM_COLOURS = len(TYPE_CODES) - 1, len(COLOUR_CODES) - 1  # without `unknown`
CONTRAST_FLOOR = 8.0  # grey levels: patches of less contrast are not stretched to full contrast


@dataclass
class FoveaOutput:
    """What the fovea sees along N lanes on T rows."""

    offset: Tensor  # (N, T, OFFSETS) logits of the offset from the reference
    spread: Tensor  # (N, T) logarithm of the expected distance of the mean offset from the truth, in reaches
    on_lane: Tensor  # (N, 2 T) logits that the lane is on half a row
    seen: Tensor  # (N, T) logits that the row is seen: neither hidden by the bonnet nor by anything before it
    lane: Tensor  # (N,) logits that there is such a lane
    type: Tensor  # (N, NUM_TYPES) logits
    colour: Tensor  # (N, NUM_COLOURS) logits

    def mean_offset(self) -> Tensor:
        """Compute the mean offset of every row, (N, T) in reaches."""
        bins = torch.linspace(-1, 1, OFFSETS, device=self.offset.device)
        # Not a matrix product, which mixed precision would round to a few hundred values.
        return (self.offset.float().softmax(-1) * bins).sum(-1)


@dataclass
class FoveaInput:
    """N patches, and what is known of their lanes besides."""

    patches: Tensor  # (N, 2 T, COLUMNS, 3) uint8 BGR
    rows: Tensor  # (N, T, ROW_FEATURES) float32
    lane: Tensor  # (N, LANE_FEATURES) float32


class Fovea(nn.Module):
    """Reads patches with a small CNN, and rows in both directions with a Transformer; the last token is the lane's.

    `steps`, the rows of a lane, `dim`, `layers` and `heads` are those of the settings. With 0 layers every row stands
    alone. Raises UserError unless `heads` divide `dim`.
    """

    def __init__(self, steps: int, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise UserError(f"lanelm.network.fovea_dim: {dim} is not a multiple of fovea_heads ({heads})")
        self.steps = steps
        channels = COLUMN_CHANNELS
        self.columns = nn.Sequential(
            _convolution(3, 24, 5, stride=(ROWS_PER_STEP, 2)),
            _convolution(24, channels),
            _convolution(channels, channels),
        )
        self.across = nn.Sequential(_convolution(channels, 48, stride=(1, 2)), _convolution(48, 48))
        self.row = nn.Linear(48 * (COLUMNS // 4), dim)
        self.row_features = nn.Linear(ROW_FEATURES, dim)
        self.lane_features = nn.Linear(LANE_FEATURES, dim)
        self.position = nn.Parameter(0.02 * torch.randn(steps + 1, dim))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 2 * dim, 0.0, F.gelu, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.heat = nn.Conv2d(channels, 1, 1)  # of the paint, column by column
        self.offset_of_heat = nn.Linear(COLUMNS // 2, OFFSETS)
        self.offset = nn.Linear(dim, OFFSETS)
        self.of_row = nn.Linear(dim, 2 + ROWS_PER_STEP)
        self.of_lane = nn.Linear(2 * dim, 1 + NUM_TYPES + NUM_COLOURS)

    def forward(self, given: FoveaInput) -> FoveaOutput:
        """Read N patches and their features."""
        columns = self.columns(normalise_patches(given.patches))  # (N, C, T, COLUMNS / 2)
        across = self.across(columns)
        tokens = self.row(across.permute(0, 2, 1, 3).flatten(2)) + self.row_features(given.rows)
        lane = self.lane_features(given.lane)[:, None]
        tokens = torch.cat([tokens, lane.to(tokens)], dim=1) + self.position
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        rows, lane = tokens[:, :-1], torch.cat([tokens[:, -1], tokens[:, :-1].mean(1)], -1)
        offset = self.offset(rows) + self.offset_of_heat(self.heat(columns)[:, 0])
        of_row, of_lane = self.of_row(rows).float(), self.of_lane(lane).float()
        return FoveaOutput(
            offset.float(),
            of_row[..., 0],
            of_row[..., 2:].flatten(1),
            of_row[..., 1],
            of_lane[:, 0],
            of_lane[:, 1 : 1 + NUM_TYPES],
            of_lane[:, 1 + NUM_TYPES :],
        )


def _convolution(inputs: int, outputs: int, size: int = 3, stride: tuple[int, int] = (1, 1)) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def normalise_patches(patches: Tensor) -> Tensor:
    """Convert patches (N, R, C, 3) uint8 to (N, 3, R, C) float32 of mean 0 and about deviation 1 each."""
    pixels = patches.permute(0, 3, 1, 2).float()
    mean = pixels.mean((1, 2, 3), keepdim=True)
    deviation = (pixels - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
    return (pixels - mean) / (deviation + CONTRAST_FLOOR)


def fovea_features(
    reference: Tensor, visible: Tensor, clicks: Clicks, score: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Compute the features of rows (B, L, T, ROW_FEATURES) and of lanes (B, L, LANE_FEATURES).

    `reference` (B, L, T) network pixels; `visible` (B, L, T), the rows on which LaneLM or the detector sees the lane;
    `score` (B, L), their confidence, NaN if there is none; `image_size` (width, height) in network pixels.
    """
    width, height = image_size
    steps = reference.shape[-1]
    rows = torch.arange(steps, device=reference.device, dtype=torch.float32)
    reach = row_reach(steps, width).to(reference.device)
    slope = torch.gradient(reference, dim=-1)[0] * (steps / height)  # pixels per pixel
    bend = torch.gradient(slope, dim=-1)[0]
    miss = clicks.x - (row_weights(clicks.row, steps) @ reference[..., None]).squeeze(-1)
    down = clicks.row[..., None] - rows  # (B, L, K, T) rows from a row down to a click
    down = torch.where(clicks.exists[..., None], down, torch.nan)
    nearest: list[Tensor] = []
    for distance in (torch.where(down <= 0, -down, torch.inf), torch.where(down > 0, down, torch.inf)):
        value, slot = distance.nan_to_num(torch.inf, torch.inf, torch.inf).min(2)
        offset = (miss.gather(-1, slot.flatten(2)).view_as(value) / reach).clamp(-2, 2)
        exists = value.isfinite()
        nearest += [torch.exp(-value / 4), torch.where(exists, offset, 0.0), exists.float()]
    inside = (reference >= 0) & (reference < width)
    clicked = clicks.any[..., None].expand_as(reference)
    features = [(slope / 2).clamp(-3, 3), (20 * bend).clamp(-2, 2), *nearest, inside.float(), clicked.float()]
    features.append(visible.float())
    known = score.isfinite()
    confidence = torch.logit(score.nan_to_num(0.5).clamp(0.01, 0.99)) / 4
    lane = [known.float(), confidence.masked_fill(~known, 0.0), clicks.exists.sum(-1) / 4, clicks.any.float()]
    return torch.stack(features, -1), torch.stack(lane, -1)
