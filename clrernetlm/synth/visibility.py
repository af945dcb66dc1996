"""Finds which points of labelled lanes are hidden in the image, and by what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from clrernetlm.core.arrays import BgrImage, ByteArray, Points, SignedByteArray
from clrernetlm.core.lane_attributes import HIDDEN_CODES, VISIBLE, HiddenBy
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.ego_vehicle import EgoVehicle, bonnet_edge

_LEAST_CHANGE: dict[HiddenBy, int] = {"vehicle": 1, "object": 12}  # display values; leaves are partly transparent
_COLUMNS = np.array([-1, 0, 1])  # pixels beside a point; the majority of the three counts


class LaneVisibility:
    """Observe the pixels of labelled points while objects are drawn over the ground.

    The canvas is compared before and after: exactly what is drawn over a point hides it. A point outside the image is
    as hidden as the nearest pixel. Points behind a crest are not labelled at all (`road.labels`).
    """

    def __init__(self, lanes: Sequence[Points], camera: Camera) -> None:
        points = np.concatenate([np.zeros((0, 2)), *lanes])
        self._lane_ends = np.cumsum([0, *map(len, lanes)]).tolist()
        self._size = camera.height, camera.width
        self._rows = np.clip(np.rint(points[:, 1]).astype(np.int64), 0, camera.height - 1)[:, None]
        columns = np.rint(points[:, 0]).astype(np.int64)[:, None] + _COLUMNS
        self._columns = np.clip(columns, 0, camera.width - 1)
        self._pixels = self._rows * camera.width + self._columns  # (K, 3) indices into the flat canvas
        self._codes = np.full(columns.shape, VISIBLE, np.int8)
        self._before: ByteArray = np.zeros((*columns.shape, 3), np.uint8)

    def start(self, canvas: BgrImage) -> None:
        """Remember the canvas (H, W, 3) with the ground alone."""
        self._before = canvas.reshape(-1, 3).take(self._pixels, axis=0)

    def record(self, canvas: BgrImage, by: HiddenBy) -> None:
        """Record that what has changed on the canvas since the last call was drawn over by one kind of things."""
        now = canvas.reshape(-1, 3).take(self._pixels, axis=0)
        if np.array_equal(now, self._before):
            return
        change = np.maximum(now, self._before) - np.minimum(now, self._before)
        self._codes[change.max(axis=-1) >= _LEAST_CHANGE[by]] = HIDDEN_CODES[by]
        self._before = now

    def hidden_by(self, ego_vehicle: EgoVehicle | None, circle: float = 0.0) -> list[SignedByteArray]:
        """Return per lane the codes of `HIDDEN_CODES` of its points, (N,) int8.

        `circle` is the radius in shares of the width that the lens lights, 0 for the whole image.
        """
        codes = np.sort(self._codes, axis=1)[:, 1]  # the median, which is the majority
        if ego_vehicle is not None:
            edge = bonnet_edge(ego_vehicle, *self._size)
            codes[self._rows[:, 0] - edge[self._columns[:, 1]] > 0.5] = HIDDEN_CODES["bonnet"]
        if circle > 0:
            height, width = self._size
            away = np.hypot(self._columns[:, 1] - (width - 1) / 2, self._rows[:, 0] - (height - 1) / 2)
            codes[away > circle * width] = HIDDEN_CODES["object"]
        return [codes[start:end] for start, end in pairwise(self._lane_ends)]
