"""Simulates clicks on labelled lanes, for evaluating prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clrernetlm.core.arrays import BoolArray, Float64Array, Points
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.models.lanelm.tokenizer import LaneTokenizer

MAX_CLICKS = 4
DRAWS = 3  # uniform numbers per click: for its row, and its noise in x and in y


@dataclass(frozen=True)
class ClickSettings:
    """Defines where clicks lie on labels; `noise`: they miss by up to this many pixels, in x and in y each."""

    places: Literal["start", "anywhere"] = "start"  # start: adjacent rows from the lane's lower end, as in the paper
    noise: float = 5.0
    seed: int = 0


def click_draws(image: str, lanes: int, seed: int) -> Float64Array:
    """Draw (lanes, MAX_CLICKS, DRAWS) numbers in [0, 1), which depend only on the seed and the image's path."""
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
) -> tuple[Float64Array, BoolArray]:
    """Simulate `number` clicks on each of L labels (N, 2) in frame pixels.

    Returns clicks (L, number, 2) in frame pixels, and which of them exist (L, number). Clicks lie on rows of the
    tokenizer where the label is visible inside the viewport; noise moves none out of it. A label that is visible on
    fewer rows gets fewer clicks; at the start, more clicks include those of a smaller `number`.
    """
    draws = click_draws(image, len(labels), settings.seed)[:, :number]
    xs = tokenizer.lane_rows([viewport.to_network(label, frame) for label in labels])[:, ::-1]  # (L, T), bottom first
    visible = (xs >= 0) & (xs < viewport.width)
    num_visible = visible.sum(axis=1, keepdims=True)
    rows = np.argsort(~visible, axis=1, kind="stable")  # the visible rows of a lane first, from the bottom up
    index = np.arange(number)
    anywhere = np.floor((index + draws[..., 0]) / number * num_visible).astype(np.int64)
    exists = num_visible > index
    picked = np.where(exists, np.broadcast_to(index, anywhere.shape), 0)
    if settings.places == "anywhere":
        picked = np.where(num_visible >= number, anywhere, picked)
    row = np.take_along_axis(rows, picked, axis=1)
    on_lane = np.stack([np.take_along_axis(xs, row, axis=1), tokenizer.rows[::-1][row]], axis=-1)
    left, top, right, bottom = viewport.crop_box(frame)
    clicks = viewport.to_frame(np.where(exists[..., None], on_lane, 0.0), frame)
    clicks += settings.noise * (2 * draws[..., 1:] - 1)
    return np.clip(clicks, (left, top), (right, bottom)), exists
