"""Markings: every type and colour of line is drawn often enough to be learned."""

from __future__ import annotations

from collections import Counter

import numpy as np

from clrernetlm.synth.road.layout import sample_layout
from clrernetlm.synth.road.line_attributes import line_attributes
from clrernetlm.synth.road.marking_randomization import randomize_markings

DISTANCES = np.geomspace(5, 60, 20)


def test_rare_types_and_colours_are_drawn_often_enough():
    types, colours = Counter(), Counter()
    for seed in range(400):
        rng = np.random.default_rng([seed, 41])
        layout = sample_layout(rng, ("highway", "urban", "rural")[seed % 3], 0.5, 1.0)
        randomize_markings(rng, layout, 80.0, False)
        for border in range(layout.ego_border, layout.ego_border + 2):
            kind, colour = line_attributes(layout, min(border, len(layout.borders) - 1), DISTANCES)
            types[kind] += 1
            colours[colour] += 1
    for kind in ("double-solid", "double-dashed", "solid-dashed", "dashed-solid"):
        assert types[kind] > 0.015 * types.total(), kind
    assert colours["other"] > 0.02 * colours.total()
