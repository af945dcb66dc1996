"""Converts lanes in network pixels to sequences of tokens, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.argument_checks import check_arguments, require_whole_number
from clrernetlm.core.arrays import Float64Array, Int64Array
from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_points import SAME_ROW, concatenate_lanes

Tokens = Int64Array
MAX_SIZE = 10_000  # pixels and rows


@dataclass(frozen=True, slots=True)
class LaneTokenizerConfig:
    """Sizes of the vocabulary. `img_w, img_h` are the network input in pixels, `num_steps` the rows T.

    x tokens are 0..nbins_x - 1 and y tokens 0..T. Padding, and in a prediction the end of a lane, is x 0 and y T;
    `pad_token_y` may be -1 instead of T. Raises UserError for values out of range.
    """

    img_w: int = 800
    img_h: int = 320
    num_steps: int = 40
    nbins_x: int = 800
    pad_token_x: int = 0
    pad_token_y: int = -1

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            require_whole_number(getattr(self, name), name)
        for name, minimum in (("img_w", 1), ("img_h", 1), ("num_steps", 2), ("nbins_x", 2)):
            if getattr(self, name) < minimum:
                raise UserError(f"{name}: {getattr(self, name)} is too small; use {minimum} or more")
        for name, maximum in (
            ("img_w", MAX_SIZE),
            ("img_h", MAX_SIZE),
            ("num_steps", MAX_SIZE),
            ("nbins_x", 10 * MAX_SIZE),
        ):
            if getattr(self, name) > maximum:
                raise UserError(f"{name}: {getattr(self, name)} is too large; use {maximum} or less")
        if self.pad_token_x != 0:
            raise UserError(f"pad_token_x: {self.pad_token_x} is a position in the image; use 0")
        if self.pad_token_y not in (-1, self.num_steps):
            raise UserError(
                f"pad_token_y: {self.pad_token_y} is not the row after the last; use {self.num_steps} or -1"
            )

    @property
    def padding_y(self) -> int:
        """Return the y token of padding, T."""
        return self.num_steps

    @property
    def bin_width(self) -> float:
        """Pixels between neighbouring x tokens."""
        return self.img_w / self.nbins_x


class LaneTokenizer:
    """Encodes lanes as T pairs (x token, y token), one per row, from the top of the image down, and decodes them.

    Row t lies at y = img_h / T * t (`rows`, (T,) float64 pixels), token k at x = k * img_w / nbins_x. x is rounded to
    the nearest token: encoding and decoding a lane moves no point by more than half a bin. Where that token would be 0,
    or nbins_x and more, the lane is off the image and the row is padding. Source: LaneLM (preprints 202504.1582),
    tokens.
    """

    @check_arguments
    def __init__(self, config: LaneTokenizerConfig | None = None) -> None:
        self.config = config or LaneTokenizerConfig()
        self.rows = self.config.img_h / self.config.num_steps * np.arange(self.config.num_steps, dtype=np.float64)

    def encode_single_lane(self, points: ArrayLike) -> tuple[Tokens, Tokens]:
        """Encode a lane (N, 2), x, y in network pixels in any order, as x tokens (T,) and y tokens (T,), int64.

        Only rows between the lane's highest and lowest point get a token, as in `lane_rows`. Raises UserError for
        another shape.
        """
        x_tokens, y_tokens = self.encode_lanes([points])
        return x_tokens[0], y_tokens[0]

    def encode_lanes(self, lanes: Sequence[ArrayLike], extend_bottom: bool = False) -> tuple[Tokens, Tokens]:
        """Encode L lanes (N_i, 2), x, y in network pixels, as x tokens (L, T) and y tokens (L, T), int64."""
        return self.quantise(self.lane_rows(lanes, extend_bottom))

    def lane_rows(self, lanes: Sequence[ArrayLike], extend_bottom: bool = False) -> Float64Array:
        """Sample L lanes (N_i, 2), x, y in network pixels, on the rows -> (L, T) x in pixels, NaN off the lane.

        Samples the interpolating spline of degree min(3, N - 1) in y, between the highest and the lowest point; x may
        be outside the image. `extend_bottom` extends a lane that crosses at least one row below, along the straight
        line through its two lowest points, as in the detector's training targets. Points may be in any order; of
        several on one row the first counts, NaN and infinite ones are dropped, and a lane of fewer than two points is
        on no row. Raises UserError for a lane of another shape.
        """
        from clrernetlm.core.lane_kernels import lanes_on_rows  # numba is slow to import

        points, starts = concatenate_lanes(lanes)
        found = np.empty((len(lanes), len(self.rows)))
        lanes_on_rows(points, starts, np.ascontiguousarray(self.rows[::-1]), SAME_ROW, extend_bottom, found)
        return np.ascontiguousarray(found[:, ::-1])

    def quantise(self, xs: ArrayLike) -> tuple[Tokens, Tokens]:
        """Round x on the rows (..., T) in pixels, NaN off the lane, to x tokens and y tokens, (..., T) int64."""
        config = self.config
        nearest = np.rint(np.asarray(xs, np.float64) * (config.nbins_x / config.img_w))
        valid = (nearest >= 1) & (nearest <= config.nbins_x - 1)  # False for NaN
        x_tokens = np.where(valid, nearest, config.pad_token_x).astype(np.int64)
        return x_tokens, np.where(valid, np.arange(config.num_steps), config.padding_y)

    def dequantise(self, x_tokens: ArrayLike) -> Float64Array:
        """Convert x tokens of any shape to x in pixels, float64 of that shape, NaN for padding.

        Raises UserError for tokens outside 0..nbins_x - 1.
        """
        tokens = _integers(x_tokens, "x_tokens", 0, self.config.nbins_x - 1)
        return np.where(tokens == self.config.pad_token_x, np.nan, tokens * self.config.bin_width)

    def decode_single_lane(self, x_tokens: ArrayLike, y_tokens: ArrayLike) -> Float64Array:
        """Decode x tokens and y tokens (S,) to points (M, 2), float64 x, y in network pixels, in their order.

        Takes lists, arrays and tensors of any length; a pair with padding in x (0) or y (T or -1) is left out. Raises
        UserError for tokens outside the vocabulary and for lengths that differ.
        """
        xs = self.dequantise(x_tokens)
        steps = _integers(y_tokens, "y_tokens", -1, self.config.num_steps)
        if xs.ndim != 1 or xs.shape != steps.shape:
            raise UserError(f"x_tokens, y_tokens: shapes {xs.shape} and {steps.shape}; one lane has two of shape (S,)")
        kept = (steps >= 0) & (steps < self.config.num_steps) & ~np.isnan(xs)
        return np.stack([xs[kept], self.rows[steps[kept]]], axis=1)


def _integers(tokens: Any, name: str, minimum: int, maximum: int) -> Tokens:
    """Convert a list, array or tensor of integers in minimum..maximum to an array; raises UserError naming it."""
    array = np.asarray(tokens.detach().cpu() if hasattr(tokens, "detach") else tokens)
    if array.dtype.kind not in "iu" and array.size:
        raise UserError(f"{name}: {array.dtype} values; tokens are integers")
    array = array.astype(np.int64)
    wrong = array[(array < minimum) | (array > maximum)]
    if wrong.size:
        raise UserError(f"{name}: {wrong[0]} is not a token; this vocabulary has {minimum} to {maximum}")
    return array
