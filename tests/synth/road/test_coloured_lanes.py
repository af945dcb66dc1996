"""Coloured lanes: strips of another colour between lines that stay."""

from __future__ import annotations

import numpy as np

from clrernetlm.synth.road.coloured_lanes import colour_lane, lay_strip
from clrernetlm.synth.road.cross_section import asphalt_strip, cross_section_profile, profile_offsets
from clrernetlm.synth.road.layout import sample_layout

GREY, PALE, RED = (80.0, 80.0, 80.0), (140.0, 140.0, 140.0), (40.0, 40.0, 110.0)


def test_a_strip_is_recoloured_and_the_ground_beyond_stays():
    strips = lay_strip([asphalt_strip(-20.0, GREY), asphalt_strip(1.0, PALE)], -1.0, 3.0, RED)
    profile = cross_section_profile(strips, [], 0.0, 0.0)[:, :3]
    for offset, colour in ((-5.0, GREY), (0.0, RED), (2.0, RED), (4.0, PALE)):
        assert profile[np.abs(profile_offsets() - offset).argmin()].tolist() == list(colour)


def test_lines_stay_and_only_the_road_is_coloured():
    coloured = 0
    for seed in range(120):
        rng = np.random.default_rng([seed, 31])
        layout = sample_layout(rng, "urban", 0.5, 1.0)
        lines, strips = list(layout.lines), list(layout.strips)
        colour_lane(rng, layout)
        assert layout.lines == lines
        if layout.strips != strips:
            coloured += 1
            before, after = (cross_section_profile(s, [], 0.0, 0.0)[:, :3] for s in (strips, layout.strips))
            changed = profile_offsets()[(before != after).any(1)]
            assert layout.left_edge - 0.1 <= changed.min() < changed.max() <= layout.right_edge + 0.1
    assert 10 <= coloured <= 32
