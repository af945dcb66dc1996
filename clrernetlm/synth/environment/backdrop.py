"""Draws continuous backdrops along a road: tree lines, embankments, hedges, rock faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clrernetlm.core.arrays import BgrColour, BgrImage, Float32Array, Float64Array
from clrernetlm.core.numba_jit import kernel
from clrernetlm.synth.environment.render_context import RenderContext
from clrernetlm.synth.textures import TILE_SIZE, fractal_noise


@dataclass(frozen=True)
class Backdrop:
    """A strip along the road between two distances.

    Its foot is at `offset` m, its top `run` m further out.
    `height` m vary by the share `rough` in waves of `wave` m. Colours blend from `foot` to `top`; `texture` is the
    standard deviation of its spots, which are `spot` m large.
    """

    offset: float
    distance: float
    far: float
    height: float
    run: float
    rough: float
    wave: float
    foot: BgrColour
    top: BgrColour
    texture: float
    spot: float
    seed: int
    bend: float = 0.0  # 1/m: leads the strip away from its offset after `bend_from` metres
    bend_from: float = 1e9

    @property
    def depth_key(self) -> float:
        """Return the sorting key: all objects at the road stand in front of a backdrop."""
        return self.far + abs(self.offset)

    def _heights(self, z: Float64Array) -> Float64Array:
        """Return (N,) heights in metres at distances `z` (N,): random, and rising from the near end."""
        tile = fractal_noise(11, 0.9)
        row, shift = self.seed % TILE_SIZE, self.seed // TILE_SIZE % TILE_SIZE
        coarse = tile[row, (z / self.wave * 8).astype(int) % TILE_SIZE]
        at = z / self.wave * 2 + shift
        smooth = np.interp(at, np.arange(2 * TILE_SIZE), np.tile(tile[(row + 7) % TILE_SIZE], 2))
        begin = np.clip((z - self.distance) / 12, 0.03, 1) if self.distance > 4 else 1.0
        ragged = np.maximum(1 + self.rough * (0.5 * smooth + 0.25 * coarse), 0.15)
        return np.asarray(self.height * begin * ragged)

    def draw(self, context: RenderContext) -> None:
        """Draw the strip, column by column of the image."""
        z = np.geomspace(max(self.distance, 1.4), self.far, 260)
        side = 1.0 if self.offset > 0 else -1.0
        offset = self.offset + self.bend * np.square(np.maximum(z - self.bend_from, 0.0))
        foot = context.project(offset, z, -0.1)
        heights = self._heights(z)
        slant = np.minimum(heights / self.height, 1) * self.run  # where the strip is low, its top is close to its foot
        top = context.project(offset + side * slant, z, heights)
        width, height = context.camera.width, context.camera.height
        columns = np.arange(width, dtype=np.float64)
        # In the image, the curve is followed from its near end as long as it runs inwards.
        inner = foot[:, 0] * side
        turn = np.flatnonzero(np.diff(np.minimum.accumulate(inner)) == 0)
        last = int(turn[0]) + 1 if len(turn) and turn[0] > 20 else len(z)
        if last < 8:
            return
        x, order = foot[:last, 0], slice(None, None, -1 if side > 0 else 1)
        rows = np.interp(columns, x[order], foot[:last, 1][order])
        metres = np.interp(columns, x[order], z[:last][order])
        x = np.maximum.accumulate(top[:last, 0][order]) + np.arange(last) * 1e-6
        crest = np.interp(columns, x, top[:last, 1][order])
        inside = (columns >= foot[:last, 0].min()) & (columns <= foot[:last, 0].max())
        if not inside.any():
            return
        crest = np.where(inside, crest, rows + 1)
        left, right = int(np.argmax(inside)), width - int(np.argmax(inside[::-1]))
        clear = np.exp(-3 * metres / context.visibility)
        first, end = int(np.clip(crest.min(), 0, height)), int(np.clip(rows.max() + 1, 0, height))
        if end - first < 2:
            return
        _draw_backdrop(
            context.canvas,
            (first, end, left, right),
            np.stack([crest, rows, metres, clear]).astype(np.float32),
            fractal_noise(7, 0.8, 256),
            np.array(
                [*self.foot, *self.top, *context.fog, self.texture, self.height / self.spot, 1 / self.spot], np.float32
            ),
            self.seed % 251,
        )
        self._light_at_night(context, foot[:last], top[:last], z[:last])

    def _light_at_night(self, context: RenderContext, foot: Float64Array, top: Float64Array, z: Float64Array) -> None:
        """Light the strip at night piece by piece, like the ground at its foot."""
        if not context.light.night:
            return
        cuts = np.linspace(0, len(z) - 1, 12).astype(int)
        for near, far in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
            piece = slice(near, far + 1)
            outline = np.vstack([foot[piece], top[piece][::-1]])
            context.shade_polygon(outline, self.offset, float(z[(near + far) // 2]), 0.5)


@kernel(fastmath=True)
def _interpolated_texel(tile: Float32Array, v: float, u: float) -> float:
    """Return a repeated tile of 256 at v, u >= 0 interpolated between four texels."""
    i, j = int(v), int(u)
    fv, fu = v - np.float32(i), u - np.float32(j)
    i0, i1, j0, j1 = i & 255, (i + 1) & 255, j & 255, (j + 1) & 255
    upper = tile[i0, j0] + fu * (tile[i0, j1] - tile[i0, j0])
    lower = tile[i1, j0] + fu * (tile[i1, j1] - tile[i1, j0])
    value: float = upper + fv * (lower - upper)
    return value


@kernel(fastmath=True)
def _draw_backdrop(
    canvas: BgrImage,
    box: tuple[int, int, int, int],
    lines: Float32Array,
    tile: Float32Array,
    style: Float32Array,
    shift: int,
) -> None:
    """Draw the rows and columns in `box`: first and end row, left and right column.

    `lines` (4, W): rows of crest and foot, metres ahead and transmission of the air per column; `style`: colours of
    foot, top and fog, texture, metres to texels.
    """
    crest, foot, metres, clear = lines[0], lines[1], lines[2], lines[3]
    one, zero, full = np.float32(1), np.float32(0), np.float32(255)
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            alpha = min(np.float32(y) - crest[x] + np.float32(0.5), one)
            if alpha <= 0 or y > foot[x] + 1:
                continue
            share = min(max((foot[x] - np.float32(y)) / max(foot[x] - crest[x], one), zero), one)
            v, u = share * style[10], metres[x] * style[11]
            fade, fine_fade = min(one, np.float32(40) / metres[x]), min(one, np.float32(12) / metres[x])
            n1 = _interpolated_texel(tile, v * np.float32(8) + shift, u * np.float32(8)) * fade
            n2 = _interpolated_texel(tile, v * np.float32(2) + shift, u * np.float32(2))
            n3 = tile[int(v * 40) & 255, int(u * 40) & 255] * fine_fade
            tone = max(one + style[9] * (n1 + n2 + np.float32(0.7) * n3), np.float32(0.25))
            for c in range(3):
                colour = (style[c] + share * (style[3 + c] - style[c])) * tone
                colour = style[6 + c] + clear[x] * (colour - style[6 + c])
                old = np.float32(canvas[y, x, c])
                canvas[y, x, c] = np.uint8(min(max(old + alpha * (colour - old), zero), full))
