"""Curtain: what stands along a road without a gap, such as a tree line, a cutting, a hedge or a rock face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.arrays import BgrImage, Float32Array
from clrernetlm.core.numba_jit import kernel
from clrernetlm.synth.environment.canvas import Stage
from clrernetlm.synth.textures import TILE, fractal_tile

Colour = tuple[float, float, float]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curtain:
    """A strip along the road from its foot at `offset` m, between two distances; its top stands `run` m further out.

    `height` m vary by the share `rough` in waves of `wave` m. Colours blend from `foot` to `top`; `texture` is the
    deviation of its spots, which are `spot` m large.
    """

    offset: float
    distance: float
    far: float
    height: float
    run: float
    rough: float
    wave: float
    foot: Colour
    top: Colour
    texture: float
    spot: float
    seed: int

    @property
    def depth_key(self) -> float:
        """Everything that stands at the road stands before it."""
        return self.far + abs(self.offset)

    def _heights(self, z: Array) -> Array:
        tile = fractal_tile(11, 0.9)
        row, shift = self.seed % TILE, self.seed // TILE % TILE
        coarse = tile[row, (z / self.wave * 8).astype(int) % TILE]
        at = z / self.wave * 2 + shift
        smooth = np.interp(at, np.arange(2 * TILE), np.tile(tile[(row + 7) % TILE], 2))
        begin = np.clip((z - self.distance) / 12, 0.03, 1) if self.distance > 4 else 1.0
        ragged = np.maximum(1 + self.rough * (0.5 * smooth + 0.25 * coarse), 0.15)
        return np.asarray(self.height * begin * ragged)

    def paint(self, stage: Stage) -> None:
        z = np.geomspace(max(self.distance, 1.4), self.far, 260)
        side = 1.0 if self.offset > 0 else -1.0
        foot = stage.project(self.offset, z, -0.1)
        heights = self._heights(z)
        slant = np.minimum(heights / self.height, 1) * self.run  # a low end lies close to its foot
        top = stage.project(self.offset + side * slant, z, heights)
        width, height = stage.camera.width, stage.camera.height
        columns = np.arange(width, dtype=np.float64)
        # From the near end on, a curve in the picture is followed as long as it runs inwards.
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
        clear = np.exp(-3 * metres / stage.visibility)
        first, end = int(np.clip(crest.min(), 0, height)), int(np.clip(rows.max() + 1, 0, height))
        if end - first < 2:
            return
        _paint_curtain(
            stage.canvas,
            (first, end, left, right),
            np.stack([crest, rows, metres, clear]).astype(np.float32),
            fractal_tile(7, 0.8, 256),
            np.array(
                [*self.foot, *self.top, *stage.fog, self.texture, self.height / self.spot, 1 / self.spot], np.float32
            ),
            self.seed % 251,
        )
        self._shade(stage, foot[:last], top[:last], z[:last])

    def _shade(self, stage: Stage, foot: Array, top: Array, z: Array) -> None:
        """Light it at night piece by piece, like the ground at its foot."""
        if not stage.light.night:
            return
        cuts = np.linspace(0, len(z) - 1, 12).astype(int)
        for near, far in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
            piece = slice(near, far + 1)
            outline = np.vstack([foot[piece], top[piece][::-1]])
            stage.cover(outline, self.offset, float(z[(near + far) // 2]), 0.5)


@kernel(fastmath=True)
def _smooth(tile: Float32Array, v: float, u: float) -> float:
    """The value of an endless tile of 256 at v, u >= 0, between the four texels around."""
    i, j = int(v), int(u)
    fv, fu = v - np.float32(i), u - np.float32(j)
    i0, i1, j0, j1 = i & 255, (i + 1) & 255, j & 255, (j + 1) & 255
    upper = tile[i0, j0] + fu * (tile[i0, j1] - tile[i0, j0])
    lower = tile[i1, j0] + fu * (tile[i1, j1] - tile[i1, j0])
    return upper + fv * (lower - upper)


@kernel(fastmath=True)
def _paint_curtain(
    canvas: BgrImage,
    box: tuple[int, int, int, int],
    lines: Float32Array,
    tile: Float32Array,
    look: Float32Array,
    shift: int,
) -> None:
    """Paint the rows and columns in `box`.

    `lines` (4, W): rows of crest and foot, metres ahead and clearness of the air per column; `look`: colours of foot,
    top and fog, texture, metres to texels.
    """
    crest, foot, metres, clear = lines[0], lines[1], lines[2], lines[3]
    one, zero, full = np.float32(1), np.float32(0), np.float32(255)
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            alpha = min(np.float32(y) - crest[x] + np.float32(0.5), one)
            if alpha <= 0 or y > foot[x] + 1:
                continue
            share = min(max((foot[x] - np.float32(y)) / max(foot[x] - crest[x], one), zero), one)
            v, u = share * look[10], metres[x] * look[11]
            fade, fine = min(one, np.float32(40) / metres[x]), min(one, np.float32(12) / metres[x])
            n1 = _smooth(tile, v * np.float32(8) + shift, u * np.float32(8)) * fade
            n2 = _smooth(tile, v * np.float32(2) + shift, u * np.float32(2))
            n3 = tile[int(v * 40) & 255, int(u * 40) & 255] * fine
            tone = max(one + look[9] * (n1 + n2 + np.float32(0.7) * n3), np.float32(0.25))
            for c in range(3):
                colour = (look[c] + share * (look[3 + c] - look[c])) * tone
                colour = look[6 + c] + clear[x] * (colour - look[6 + c])
                old = np.float32(canvas[y, x, c])
                canvas[y, x, c] = np.uint8(min(max(old + alpha * (colour - old), zero), full))
