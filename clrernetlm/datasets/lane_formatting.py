"""Packs samples for the detector: lanes become the head's regression targets, images become tensors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from clrernetlm.core.arrays import BoolArray, ByteArray, Float32Array, Float64Array
from clrernetlm.core.lane_points import concatenate_lanes
from clrernetlm.datasets.label_attributes import attribute_targets
from clrernetlm.datasets.transforms import Sample
from clrernetlm.models.clrernet.targets import EMPTY, IGNORED_LABEL, ROWS, VALID

OffImage = Literal["official", "geometry"]


@dataclass(frozen=True)
class PackCLRNetInputs:
    """Packs samples of network pixels to `inputs`, `lanes`, `masks`, `metainfo`, as the last step of a pipeline.

    `width, height` are the network input in pixels; `num_points` rows run from the bottom edge to the top edge.

    `off_image` chooses the targets of rows whose x is off the image. "official" stores them all below the visible ones,
    which is right for a lane that enters from the side and wrong for one that leaves at the top: its visible rows are
    shifted upwards. These are the published targets. "geometry" keeps every row in place; the lane extends from its
    first visible row to its last. Both agree for lanes that only leave at the bottom.
    """

    max_lanes: int = 4
    width: int = 800
    height: int = 320
    num_points: int = 72
    off_image: OffImage = "official"

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample | None:
        """Pack one sample; None if it had lanes and none of them is usable any more.

        Takes `image` (H, W, 3) uint8 BGR, `metainfo`, and if labelled `lanes`, a list of (N, 2) network pixels, and
        `mask` (H, W) uint8. Returns `inputs` (3, H, W) uint8, `lanes` (max_lanes, 6 + num_points) float32, `masks`
        (H, W) uint8 with 0..max_lanes and 255 for lanes beyond them, and what is known of the lanes
        (`attribute_targets`) on the rows of `lanes`. A frame labelled with no lanes is a valid, negative sample.
        """
        packed: Sample = {"inputs": to_planar_tensor(sample["image"]), "metainfo": sample["metainfo"]}
        if "lanes" in sample:
            targets, lane_of_slot = self._encode(sample["lanes"], self.off_image == "official")
            if sample["lanes"] and not targets[:, VALID].any():
                return None
            packed["lanes"] = torch.from_numpy(targets)
            rows = self._rows_of_targets(sample["lanes"]) if "attributes" in sample else self._rows
            packed |= attribute_targets(sample, lane_of_slot, rows, self._inside(targets))
        if "mask" in sample:
            packed["masks"] = torch.from_numpy(self.mask_targets(sample["mask"]))
        return packed

    def mask_targets(self, mask: ByteArray) -> ByteArray:
        """Convert lane numbers (H, W) to classes 0..max_lanes, and to 255, which is ignored in training, beyond them.

        Warns of such numbers, once for each set of them; `check-data` names the files.
        """
        beyond = mask > self.max_lanes
        numbers = [int(number) for number in np.unique(mask[beyond]) if number < IGNORED_LABEL]
        if numbers:
            listed = ", ".join(map(str, numbers))
            warnings.warn(
                f"masks: lane numbers {listed} are beyond model.max_lanes ({self.max_lanes}), and their pixels train "
                "nothing; number lanes from 1, or raise model.max_lanes",
                stacklevel=2,
            )
        return np.where(beyond, np.uint8(IGNORED_LABEL), mask)

    def lane_targets(self, lanes: Sequence[ArrayLike]) -> Float32Array:
        """Encode lanes (N, 2) x, y in network pixels, bottom first, as (max_lanes, 6 + num_points) float32 targets.

        `models.clrernet.targets` describes the columns; -1e5 means no x. A lane visible on fewer than two rows has an
        invalid slot, one with fewer than two points none. Of more than `max_lanes` usable lanes, those visible on most
        rows are kept, in their order.

        Raises no errors: NaN and infinite points are dropped, points are sorted by y, and of several points on one row
        the first is kept. Source: CLRNet (arXiv:2203.10350), section 3.2, with the official code's row layout.
        """
        return self._encode(lanes, self.off_image == "official")[0]

    def _encode(self, lanes: Sequence[ArrayLike], official: bool) -> tuple[Float32Array, NDArray[np.intp]]:
        """Return the targets of `lane_targets`, and for each slot the index of its lane, -1 for none."""
        from clrernetlm.datasets.target_kernels import encode_lane  # numba is slow to import

        targets = np.full((self.max_lanes, ROWS + self.num_points), EMPTY, np.float32)
        targets[:, :2] = 1, 0
        lane_of_slot = np.full(self.max_lanes, -1, np.intp)
        points, starts = concatenate_lanes(lanes)
        candidates = [points[start:end] for start, end in pairwise(starts) if end - start > 1]
        if not candidates:
            return targets, lane_of_slot
        encoded = np.empty((len(candidates), ROWS + self.num_points))
        rows = self._rows
        visible = np.array(
            [encode_lane(lane, rows, self.width, official, row) for lane, row in zip(candidates, encoded, strict=True)]
        )
        kept = choose_lanes(visible, self.max_lanes)
        slots = np.flatnonzero(visible[kept] > 1)
        targets[slots] = encoded[kept[slots]]
        lane_of_slot[slots] = np.flatnonzero(np.diff(starts) > 1)[kept[slots]]
        return targets, lane_of_slot

    @property
    def _rows(self) -> Float64Array:
        """Return y (num_points,) of the rows in network pixels, bottom first."""
        return np.arange(self.height, -1, -self.height / (self.num_points - 1))[: self.num_points]

    def _inside(self, targets: Float32Array) -> BoolArray:
        """Return on which rows (max_lanes, num_points) targets have an x inside the image."""
        xs = targets[:, ROWS:]
        return (xs >= 0) & (xs < self.width)

    def _rows_of_targets(self, lanes: Sequence[ArrayLike]) -> Float64Array:
        """Return y in network pixels of the rows of `lane_targets`, (num_points,) or (max_lanes, num_points)."""
        if self.off_image == "geometry":
            return self._rows
        in_place, _ = self._encode(lanes, official=False)
        missing = in_place[:, ROWS:] <= EMPTY
        return self._rows[np.argsort(np.where(missing, 2, self._inside(in_place)), axis=1, kind="stable")]


def choose_lanes(visible: NDArray[np.integer], max_lanes: int) -> NDArray[np.intp]:
    """Choose at most `max_lanes` lanes by their numbers of visible rows (L,) -> indices, in their order.

    Of too many, those with most rows, and none with fewer than two. Otherwise all lanes, including invisible ones.
    """
    if len(visible) <= max_lanes:
        return np.arange(len(visible))
    most_visible = np.argsort(-visible, kind="stable")[:max_lanes]
    return np.sort(most_visible[visible[most_visible] > 1])


def to_planar_tensor(image: ByteArray) -> torch.Tensor:
    """Convert an image (H, W, 3) uint8 to a tensor (3, H, W); a copy, unless its memory is already plane by plane.

    Splitting channels is eight times faster than copying a transposed view.
    """
    stored = image.transpose(2, 0, 1)
    if stored.flags.c_contiguous:
        return torch.from_numpy(stored)
    channels = np.empty((image.shape[2], *image.shape[:2]), np.uint8)
    cv2.split(image, list(channels))
    return torch.from_numpy(channels)
