"""Overlays: the pixels that are drawn, and those that are not changed."""

from __future__ import annotations

import numpy as np

from clrernetlm.core.drawing import GREEN, PALETTE, RED, draw_lanes
from clrernetlm.core.lane import Lane

IMAGE = np.full((200, 400, 3), 40, np.uint8)
UPRIGHT = np.array([[100.0, 199.0], [100.0, 20.0]])


def test_lanes_are_drawn_in_their_colours_on_a_copy() -> None:
    drawn = draw_lanes(IMAGE, [UPRIGHT, UPRIGHT + np.array([150, 0])], width=5)
    assert (IMAGE == 40).all()
    assert tuple(drawn[100, 100]) == PALETTE[0]
    assert tuple(drawn[100, 250]) == PALETTE[1]
    assert (drawn[:, 150:200] == 40).all()
    assert tuple(draw_lanes(IMAGE, [UPRIGHT], GREEN, 5)[100, 100]) == GREEN
    assert tuple(draw_lanes(IMAGE, [UPRIGHT] * 2, [PALETTE[3], GREEN], 5)[100, 100]) == GREEN


def test_lines_are_smooth_and_scale_with_the_image() -> None:
    slanted = np.array([[100.0, 199.0], [180.0, 20.0]])
    shades = len(np.unique(draw_lanes(IMAGE, [slanted])[..., 0]))
    assert shades > 10
    large = np.zeros((1000, 2700, 3), np.uint8)
    widths = [int((draw_lanes(image, [UPRIGHT])[100, :, 1] > 0).sum()) for image in (large, large[:500, :1350])]
    assert widths[0] >= widths[1] + 4


def test_scores_are_written_inside_the_image() -> None:
    plain = draw_lanes(IMAGE, [Lane(UPRIGHT, 0.87)])
    scored = draw_lanes(IMAGE, [Lane(UPRIGHT, 0.87)], scores=True)
    rows, columns = np.nonzero((plain != scored).any(axis=2))
    assert len(rows) > 50
    assert abs(columns.mean() - 100) < 5
    off_image = Lane(UPRIGHT + np.array([5000, 0]), 0.5)
    assert (draw_lanes(IMAGE, [off_image], scores=True) != IMAGE).any()


def test_empty_single_point_and_distant_lanes_are_drawn() -> None:
    for lanes in ([], [np.zeros((0, 2))], [np.array([[np.nan, 5.0], [np.inf, 7.0]])]):
        assert (draw_lanes(IMAGE, lanes) == IMAGE).all()
    assert tuple(draw_lanes(IMAGE, [np.array([[50.0, 60.0]])])[60, 50]) == PALETTE[0]
    far = draw_lanes(IMAGE, [np.array([[-1e12, 100.0], [1e12, 100.0]])], GREEN)
    assert (far[100, :, 1] > 120).all()


def test_hidden_parts_are_dotted() -> None:
    upright = np.stack([np.full(10, 100.0), np.linspace(190, 10, 10)], axis=1)
    hidden_by = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 2])
    solid = draw_lanes(IMAGE, [upright], GREEN, 4)[:, 100, 1] > 120
    mixed = draw_lanes(IMAGE, [Lane(upright, hidden_by=hidden_by)], GREEN, 4)[:, 100, 1] > 120
    below, above, top = slice(112, 190), slice(35, 108), slice(10, 28)
    assert solid[12:188].all()
    assert mixed[above].all()
    for part in (below, top):
        assert 0.15 < mixed[part].mean() < 0.7
    assert np.diff(mixed[below]).sum() >= 8  # four dots and more
    everything_seen = Lane(upright, visible=np.ones(10, bool))
    assert (draw_lanes(IMAGE, [everything_seen], GREEN, 4) == draw_lanes(IMAGE, [upright], GREEN, 4)).all()


def test_hidden_parts_of_odd_lanes_are_drawn_without_errors() -> None:
    far = Lane(np.array([[-1e12, 100.0], [1e12, 100.0], [np.nan, 50.0]]), visible=np.array([False, True, True]))
    assert (draw_lanes(IMAGE, [far], GREEN) != IMAGE).any()
    point = Lane(np.array([[50.0, 60.0]]), visible=np.array([False]))
    assert tuple(draw_lanes(IMAGE, [point], GREEN)[60, 50]) == GREEN


def test_position_type_and_colour_are_written_where_known() -> None:
    named = Lane(UPRIGHT, 0.5, "dashed", "yellow", -1)
    assert (draw_lanes(IMAGE, [named], attributes=True) != draw_lanes(IMAGE, [named])).any()
    unknown = Lane(UPRIGHT, 0.5)
    assert (draw_lanes(IMAGE, [unknown], attributes=True) == draw_lanes(IMAGE, [unknown])).all()


def plate_rows(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return the rows of an image with 20 pixels or more of a colour."""
    return np.flatnonzero((image == colour).all(axis=2).sum(axis=1) >= 20)


def test_captions_of_the_paint_have_no_position_and_stand_at_the_lowest_seen_point() -> None:
    upright = np.stack([np.full(20, 200.0), np.linspace(190, 10, 20)], axis=1)
    words = Lane(upright, 0.5, "dashed", "white", -1, visible=np.arange(20) >= 8)
    drawn = draw_lanes(IMAGE, [words], RED, paint=True)
    assert (drawn != draw_lanes(IMAGE, [words], RED, attributes=True)).any(), "the other caption has the position too"
    rows = plate_rows(drawn, RED)
    assert len(rows) > 5
    assert 100 < rows.mean() < upright[8, 1]
    unknown = Lane(upright, 0.5, position=-1)
    assert (draw_lanes(IMAGE, [unknown], RED, paint=True) == draw_lanes(IMAGE, [unknown], RED)).all()


def test_captions_do_not_cover_each_other() -> None:
    upright = np.stack([np.full(40, 200.0), np.linspace(190, 10, 40)], axis=1)
    lanes = [Lane(upright + np.array([shift, 0.0]), 0.5, "double-solid", "white") for shift in (0.0, 15.0, 30.0)]
    colours = [PALETTE[0], PALETTE[3], PALETTE[6]]
    drawn = draw_lanes(IMAGE, lanes, colours, paint=True)
    plates = [plate_rows(drawn, colour) for colour in colours]
    assert all(len(rows) > 5 for rows in plates)
    assert plates[0].min() > plates[1].max() > plates[1].min() > plates[2].max()
    # Where there is no place left, a caption is left out.
    short = [Lane(upright[:2], 0.5, "double-solid", "white")] * 2
    twice = draw_lanes(IMAGE, short, colours, paint=True)
    assert len(plate_rows(twice, colours[1])) == 0


def test_text_is_black_on_bright_plates_and_white_on_dark_ones() -> None:
    large = np.full((400, 2000, 3), 40, np.uint8)
    for colour, ink in ((PALETTE[4], 0), (PALETTE[6], 255)):
        drawn = draw_lanes(large, [Lane(UPRIGHT, 0.5)], colour, scores=True)
        assert (drawn == ink).all(axis=2).any()
        assert not (drawn == 255 - ink).all(axis=2).any()
