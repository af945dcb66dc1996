"""Points that somebody could have clicked on labelled lanes, for testing with prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.lane import Points
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.models.lanelm.tokenizer import LaneTokenizer

Places = Literal["start", "anywhere"]
Floats = NDArray[np.float64]
MAX_CLICKS = 4
DRAWS = 3  # uniform numbers of a click: its place, its miss in x and in y


@dataclass(frozen=True)
class ClickSettings:
    """How points are taken from labels: `noise` pixels at most, in x and in y each."""

    places: Places = "start"  # start: on adjacent rows from the lane's lower end, as in the paper; or all along it
    noise: float = 5.0
    seed: int = 0


def click_draws(image: str, lanes: int, seed: int) -> Floats:
    """(lanes, MAX_CLICKS, DRAWS) numbers in [0, 1): a function of the seed and the image's path in its list alone."""
    digest = hashlib.sha256(image.lstrip("/").encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, np.uint32)]).random((lanes, MAX_CLICKS, DRAWS))


def label_clicks(
    labels: Sequence[Points],
    image: str,
    frame: FrameSize,
    number: int,
    settings: ClickSettings,
    tokenizer: LaneTokenizer,
    viewport: Viewport,
) -> tuple[Floats, NDArray[np.bool_]]:
    """L labels (N, 2) in frame pixels -> (L, number, 2) clicks in frame pixels, and which of them there are.

    Clicks lie on rows of the tokenizer where the label shows inside the viewport, and miss by the noise, never out of
    it. A label that shows on fewer rows gets fewer clicks; a larger `number` at the start adds to those of a smaller.
    """
    draws = click_draws(image, len(labels), settings.seed)[:, :number]
    xs = tokenizer.lane_rows([viewport.to_network(label, frame) for label in labels])[:, ::-1]  # (L, T), bottom first
    visible = (xs >= 0) & (xs < viewport.width)
    rows = visible.sum(axis=1, keepdims=True)
    order = np.argsort(~visible, axis=1, kind="stable")  # the visible rows of a lane first, from the bottom up
    click = np.arange(number)
    anywhere = np.floor((click + draws[..., 0]) / number * rows).astype(np.int64)
    place = np.where(rows > click, np.broadcast_to(click, anywhere.shape), 0)
    if settings.places == "anywhere":
        place = np.where(rows >= number, anywhere, place)
    at = np.take_along_axis(order, place, axis=1)
    on_lane = np.stack([np.take_along_axis(xs, at, axis=1), tokenizer.rows[::-1][at]], axis=-1)
    there = rows > click
    left, top, right, bottom = viewport.crop_box(frame)
    missed = viewport.to_frame(np.where(there[..., None], on_lane, 0.0), frame)
    missed += settings.noise * (2 * draws[..., 1:] - 1)
    return np.clip(missed, (left, top), (right, bottom)), there
