"""Patches show the frame's own pixels along a curve: what lies on the curve is in the middle column."""

import numpy as np
import pytest
import torch

from clrernetlm.core.viewport import Viewport
from clrernetlm.models.lanelm.fovea.patches import COLUMNS, FrameCrop, cut_patches, patches_of_images, row_reach

VIEW = Viewport(width=512, height=192, top=0.4)
STEPS = 32


def painted_frame(frame, x_of_y, thickness=3):
    """Return a grey frame (width, height) with a white line at x_of_y(y)."""
    width, height = frame
    distance = np.abs(np.arange(width) - x_of_y(np.arange(height))[:, None])
    return np.where(distance < thickness, 255, 90).astype(np.uint8)[..., None].repeat(3, 2)


def line(y):
    return 300 + 0.9 * (y - 288)


@pytest.mark.parametrize("frame", [(1280, 720), (1640, 590), (820, 295), (3840, 1600)])
def test_the_paint_under_a_curve_is_in_the_middle_of_its_patch(frame):
    slope, start = 0.9, 0.3 * frame[0]
    image = painted_frame(frame, lambda y: start + slope * (y - 0.4 * frame[1]), thickness=max(3, frame[0] // 400))
    rows = VIEW.height / STEPS * np.arange(STEPS)
    y_frame = VIEW.to_frame(np.stack([rows, rows], -1), frame)[:, 1]
    x_frame = start + slope * (y_frame - 0.4 * frame[1])
    curve = VIEW.to_network(np.stack([x_frame, y_frame], -1), frame)[:, 0].astype(np.float32)
    patch = cut_patches(FrameCrop.of(image, VIEW), curve[None])[0]
    assert patch.shape == (2 * STEPS, COLUMNS, 3)
    bright = (patch[..., 0].astype(float) - 90).clip(0)
    columns = (bright * np.arange(COLUMNS)).sum(1) / bright.sum(1).clip(1)
    reach = row_reach(2 * STEPS, VIEW.width).numpy()
    away = (columns - (COLUMNS - 1) / 2) / ((COLUMNS - 1) / 2) * reach * (1640 / 512)
    assert np.abs(away[2:-2]).max() < 1.5  # pixels at 1640


def test_a_curve_beside_the_paint_sees_it_by_that_distance():
    image = painted_frame((1640, 590), lambda y: np.full(len(y), 800.0))
    x, reach = 800 / 1640 * 512, row_reach(STEPS, 512)
    curve = (x - 0.5 * reach).numpy()
    patch = cut_patches(FrameCrop.of(image, VIEW), curve[None].astype(np.float32))[0, ::2, :, 0].astype(float) - 90
    columns = (patch * np.linspace(-1, 1, COLUMNS)).sum(1) / patch.sum(1)
    np.testing.assert_allclose(columns, 0.5, atol=0.03)


def test_pixels_beyond_the_crop_are_black_however_far_the_curve_is_away():
    image = np.full((590, 1640, 3), 200, np.uint8)
    curves = np.stack([np.full(STEPS, x, np.float32) for x in (-1e6, 1e6, 256)])
    patches = cut_patches(FrameCrop.of(image, VIEW), curves)
    assert (patches[:2] == 0).all()
    assert (patches[2] == 200).all()


def test_a_crop_is_a_copy_and_at_most_1640_pixels_wide():
    image = np.zeros((1200, 3840, 3), np.uint8)
    crop = FrameCrop.of(image, VIEW)
    assert crop.pixels.shape == (round(720 * 1640 / 3840), 1640, 3)
    small = np.zeros((295, 820, 3), np.uint8)
    crop = FrameCrop.of(small, VIEW)
    small[:] = 255
    assert (crop.pixels == 0).all()


def test_many_lanes_of_many_images_equal_each_alone():
    rng = np.random.default_rng(0)
    crops = [FrameCrop.of(rng.integers(0, 256, (590, 1640, 3), np.uint8), VIEW) for _ in range(2)]
    curves = torch.from_numpy(rng.uniform(0, 512, (2, 300, STEPS)).astype(np.float32))
    used = torch.from_numpy(rng.random((2, 300)) < 0.95)
    used[:, [0, 255, 256, 299]] = True
    together = patches_of_images(crops, curves, used)
    index = used.flatten().cumsum(0).view(2, 300) - 1
    for image, lane in ((0, 0), (1, 299), (0, 255), (1, 256)):
        alone = cut_patches(crops[image], curves[image, lane : lane + 1].numpy())[0]
        np.testing.assert_array_equal(together[index[image, lane]].numpy(), alone)
    assert patches_of_images(crops, curves, used & False).shape == (0, 2 * STEPS, COLUMNS, 3)
