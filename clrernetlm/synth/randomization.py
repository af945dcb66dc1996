"""Names the groups of domain randomization, which prepare a detector for real roads; each can be left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from clrernetlm.core.errors import UserError

RandomizationGroup = Literal["cameras", "course", "surface", "paint", "distractors", "surroundings", "light", "sensor"]
RANDOMIZATION_GROUPS: tuple[RandomizationGroup, ...] = get_args(RandomizationGroup)
# cameras       frames of any shape, horizons and lenses of any dashboard, bonnets, reflections and rain on the glass
# course        lane widths, curves, hills and positions in the lane with the statistics of real labels, sharp bends,
#               forks, left-hand traffic, edges without lines, hatched areas and turning lanes between the directions
# surface       concrete and asphalt from black to glaring, joints, grooves, tyre tracks, patches, coloured lanes
# paint         markings of every type and colour from fresh to hardly visible, dots and studs, roadworks
# distractors   unlabelled features that resemble lanes: seams, kerbs, old lines, skid marks, shadows of cables
# surroundings  hills, embankments, walls, poles, traffic and parked cars as along real roads
# light         low sun, hard shadows, dusk, unlit nights with headlight cones, wet roads and spray
# sensor        colour casts, exposure, noise, blur, compression
Randomization = frozenset[RandomizationGroup]
NO_RANDOMIZATION: Randomization = frozenset()
FULL_RANDOMIZATION: Randomization = frozenset(RANDOMIZATION_GROUPS)


def parse_randomization(names: Iterable[str]) -> Randomization:
    """Turn names of groups into a set: `all` adds every group, `no-NAME` removes one, `none` adds nothing.

    Names apply from left to right. Raises UserError for an unknown name.
    """
    groups: set[RandomizationGroup] = set()
    for name in names:
        matches = [group for group in RANDOMIZATION_GROUPS if group == name.removeprefix("no-")]
        if name == "all":
            groups |= FULL_RANDOMIZATION
        elif matches and name.startswith("no-"):
            groups -= set(matches)
        elif matches:
            groups |= set(matches)
        elif name != "none":
            raise UserError(
                f"randomization: {name}: no such group; use all, none, or any of {', '.join(RANDOMIZATION_GROUPS)}, "
                "each with no- in front to leave it out"
            )
    return frozenset(groups)
