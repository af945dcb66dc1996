"""Realism: the pieces that make generated roads teach real ones, each of which can be left out to see its worth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from clrernetlm.core.errors import UserError

Piece = Literal["cameras", "course", "surface", "paint", "distractors", "surroundings", "light", "sensor"]
PIECES: tuple[Piece, ...] = get_args(Piece)
# cameras       frames of any shape, horizons and lenses of any dashboard, bonnets and what the windscreen mirrors
# course        lane widths, bends, hills and places in the lane as real labels have them
# surface       concrete and asphalt from black to glaring, joints, grooves, tyre tracks, patches
# paint         markings from fresh to hardly there, dots and studs, white, yellow and grey, wide and narrow
# distractors   what looks like a lane and is labelled as nothing: seams, kerbs, old lines, skid marks, cables' shadows
# surroundings  hills, embankments, walls, poles and traffic as they stand along real roads
# light         low sun, hard shadows, dusk, unlit nights with headlight cones, wet roads
# sensor        casts of colour, exposure, noise, blur, compression
Realism = frozenset[Piece]
PLAIN: Realism = frozenset()
ALL: Realism = frozenset(PIECES)


def parse_realism(names: Iterable[str]) -> Realism:
    """Names of pieces -> the set; `all` and `none` stand for all and none of them, `no-NAME` leaves one out.

    Raises UserError for a name that is no piece.
    """
    chosen: set[Piece] = set()
    for name in names:
        named = [piece for piece in PIECES if piece == name.removeprefix("no-")]
        if name == "all":
            chosen |= ALL
        elif named and name.startswith("no-"):
            chosen -= set(named)
        elif named:
            chosen |= set(named)
        elif name != "none":
            raise UserError(f"--realism {name}: no such piece; use all, none, or any of {', '.join(PIECES)}")
    return frozenset(chosen)
