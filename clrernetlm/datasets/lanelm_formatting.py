"""Packs samples for LaneLM: images and lanes as sequences of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from clrernetlm.config import Config
from clrernetlm.core.arrays import BoolArray, Float32Array
from clrernetlm.datasets.label_attributes import attribute_targets
from clrernetlm.datasets.lane_formatting import choose_lanes, to_planar_tensor
from clrernetlm.datasets.transforms import Sample
from clrernetlm.models.lanelm.tokenizer import LaneTokenizer, LaneTokenizerConfig
from clrernetlm.models.pixel_scaling import normalise


@dataclass(frozen=True)
class PackLaneLMInputs:
    """Packs a sample of network pixels as image, tokens of its lanes and `metainfo`: the last step of a pipeline.

    `img_w, img_h` are the network input in pixels, `num_points` the rows T and `nbins_x` the x tokens of
    `LaneTokenizer`. `as_bytes` keeps the image in bytes: a quarter of the memory on the way to the device.
    """

    max_lanes: int = 4
    num_points: int = 40
    img_w: int = 800
    img_h: int = 320
    nbins_x: int = 800
    as_bytes: bool = False

    @cached_property
    def tokenizer(self) -> LaneTokenizer:
        """The tokenizer of these sizes."""
        return LaneTokenizer(LaneTokenizerConfig(self.img_w, self.img_h, self.num_points, self.nbins_x))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample | None:
        """Pack one sample; None if it had lanes but none of them is usable any more.

        Takes `image` (H, W, 3) uint8 BGR, `metainfo`, and if it is labelled `lanes`, a list of (N, 2) network pixels.
        Returns `inputs` (3, H, W) float32 BGR in [0, 1] (uint8 with `as_bytes`), `lane_tokens_x` and `lane_tokens_y`
        (max_lanes, T) int64, `lane_valid_mask` (max_lanes,) bool, `lane_xs` (max_lanes, T) float32, the same lanes
        before rounding in pixels with NaN off the lane, and what is known of the lanes (`attribute_targets`) on the
        same rows. A frame labelled without any lane is a valid sample.
        """
        image = to_planar_tensor(sample["image"])
        packed: Sample = {"inputs": image if self.as_bytes else normalise(image), "metainfo": sample["metainfo"]}
        if "lanes" in sample:
            xs, lane_of_slot = self._encode(sample["lanes"])
            x_tokens, y_tokens = self.tokenizer.quantise(xs)
            valid = (x_tokens > 0).any(axis=1)
            if sample["lanes"] and not valid.any():
                return None
            packed["lane_tokens_x"] = torch.from_numpy(x_tokens)
            packed["lane_tokens_y"] = torch.from_numpy(y_tokens)
            packed["lane_valid_mask"] = torch.from_numpy(valid)
            packed["lane_xs"] = torch.from_numpy(xs)
            packed |= attribute_targets(sample, lane_of_slot, self.tokenizer.rows, x_tokens > 0)
        return packed

    def lane_targets(self, lanes: Sequence[ArrayLike]) -> Float32Array:
        """Sample lanes (N, 2), x, y in network pixels, on the tokenizer's rows: (max_lanes, T) float32, NaN off lanes.

        Lanes are extended below their lowest point to the bottom of the image, like the detector's targets. Of a lane
        that leaves the image and comes back only the longest part is kept, the lower one if they are equal: a sequence
        ends once. Lanes on fewer than two rows are left out; of too many those on most rows are kept, as in
        `PackCLRNetInputs`. They fill the slots from the first on, in their order.
        """
        return self._encode(lanes)[0]

    def _encode(self, lanes: Sequence[ArrayLike]) -> tuple[Float32Array, NDArray[np.intp]]:
        """Return the targets of `lane_targets`, and for each slot the index of its lane, -1 for none."""
        targets = np.full((self.max_lanes, self.num_points), np.nan, np.float32)
        lane_of_slot = np.full(self.max_lanes, -1, np.intp)
        # Rounded to float32 first, so that the tokens are exactly those of the stored x.
        xs = self.tokenizer.lane_rows(lanes, extend_bottom=True).astype(np.float32)
        on_lane = _longest_run(self.tokenizer.quantise(xs)[0] > 0)
        xs[~on_lane] = np.nan
        num_rows = on_lane.sum(axis=1)
        usable = np.flatnonzero(num_rows > 1)
        chosen = usable[choose_lanes(num_rows[usable], self.max_lanes)]
        targets[: len(chosen)] = xs[chosen]
        lane_of_slot[: len(chosen)] = chosen
        return targets, lane_of_slot


def _longest_run(visible: BoolArray) -> BoolArray:
    """Keep only the longest run of True in each row of (L, T), the last one if they are equal."""
    gaps = np.cumsum(~visible, axis=1)  # constant along a run
    lengths = np.zeros((len(visible), visible.shape[1] + 1), np.int64)
    lane, step = np.nonzero(visible)
    np.add.at(lengths, (lane, gaps[lane, step]), 1)
    longest = visible.shape[1] - lengths[:, ::-1].argmax(axis=1)
    kept: BoolArray = visible & (gaps == longest[:, None])
    return kept


def lane_packing(config: Config) -> PackLaneLMInputs:
    """Build the last step of LaneLM's pipeline from the settings."""
    network, viewport = config.lanelm.network, config.model.viewport
    return PackLaneLMInputs(
        max_lanes=config.model.max_lanes,
        num_points=network.num_steps,
        img_w=viewport.width,
        img_h=viewport.height,
        nbins_x=network.nbins_x,
        as_bytes=True,
    )
