"""Augmentation: labels stay on their markings, randomness is seeded, and no augmentation changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from clrernetlm.config import AugmentationConfig
from clrernetlm.core.images import ThreadLocalBuffers, read_frame
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets import Alaug, Compose, CropResize, PackCLRNetInputs, image_ops
from clrernetlm.datasets.image_kernels import warp_packed
from clrernetlm.datasets.image_ops import ColourChange
from clrernetlm.datasets.lane_formatting import to_planar_tensor
from tests.helpers.golden_weights import GOLDEN

NOTHING = AugmentationConfig(flip=0, channel_shuffle=0, brightness_contrast=0, hsv=0, blur=0, affine=0)
EVERYTHING = AugmentationConfig(flip=1, channel_shuffle=1, brightness_contrast=1, hsv=1, blur=1, affine=1)

TARGETS = np.load(GOLDEN / "f_targets.npz")


def golden_frame() -> np.ndarray:
    noise = np.random.Generator(np.random.PCG64(77)).integers(0, 256, (590, 1640, 3), np.uint8)
    return cv2.blur(noise, (9, 9))


def marked_sample() -> dict:
    """Return a black frame with one bright marking, its lane, and its mask with number 2."""
    lane = np.stack([np.linspace(500, 900, 30), np.linspace(580, 300, 30)], axis=1)
    image, mask = np.zeros((590, 1640, 3), np.uint8), np.zeros((590, 1640), np.uint8)
    cv2.polylines(image, [lane.round().astype(np.int32)], False, (255, 255, 255), 13)
    cv2.polylines(mask, [lane.round().astype(np.int32)], False, [2], 13)
    return {"image": image, "lanes": [lane], "mask": mask, "metainfo": {}}


def test_without_augmentation_the_image_is_the_golden_one() -> None:
    frame = golden_frame()
    assert frame.sum() == TARGETS["img_src_sum"]
    for transform in (CropResize(), Alaug(NOTHING)):
        image = transform({"image": frame}, np.random.default_rng(0))["image"]
        to_planar_tensor = image.transpose(2, 0, 1)
        assert to_planar_tensor.shape == tuple(TARGETS["img_shape"])
        assert to_planar_tensor.sum() == TARGETS["img_sum"]
        np.testing.assert_array_equal(to_planar_tensor.ravel()[TARGETS["img_idx"]], TARGETS["img_val"])


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("affine", [0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_lane_and_mask_follow_the_marking(flip: float, affine: float, seed: int) -> None:
    transform = Alaug(replace(NOTHING, flip=flip, affine=affine))
    result = transform(marked_sample(), np.random.default_rng(seed))
    image, mask = result["image"][..., 0], result["mask"]
    xs, ys = result["lanes"][0].T
    visible = (xs > 8) & (xs < 792) & (ys > 8) & (ys < 312)
    assert visible.sum() > 10
    assert set(np.unique(mask)) == {0, 2}
    rows = np.round(ys[visible][1:-1]).astype(int)
    truth = np.interp(rows, ys[::-1], xs[::-1])
    for marked in (image[rows] > 127, mask[rows] == 2):
        error = np.array([np.flatnonzero(row).mean() for row in marked]) - truth
        assert np.abs(error).max() < 1.5  # markings and labels are drawn on whole pixels
        assert abs(error.mean()) < 0.7  # a mirror that is one pixel off would show


def test_flip_mirrors_pixels_and_points_alike() -> None:
    plain = CropResize()(marked_sample(), np.random.default_rng(0))
    flipped = Alaug(replace(NOTHING, flip=1))(marked_sample(), np.random.default_rng(0))
    np.testing.assert_array_equal(flipped["image"], plain["image"][:, ::-1])
    np.testing.assert_array_equal(flipped["mask"], plain["mask"][:, ::-1])
    np.testing.assert_allclose(flipped["lanes"][0][:, 0], 799 - plain["lanes"][0][:, 0])


def test_one_warp_equals_resizing_when_nothing_moves() -> None:
    still = replace(NOTHING, affine=1, affine_scale=(1, 1), affine_rotate=(0, 0), affine_shift=0)
    frame = cv2.GaussianBlur(golden_frame(), (0, 0), 3)
    warped = Alaug(still)({"image": frame}, np.random.default_rng(0))["image"].astype(int)
    difference = np.abs(warped - CropResize()({"image": frame}, np.random.default_rng(0))["image"])
    assert difference[1:-1, 1:-1].max() <= 2  # positions are rounded to 1/16 pixel


def test_points_that_descend_after_a_rotation_are_removed() -> None:
    lane = np.array([[200.0, 580.0], [400.0, 420.0], [700.0, 400.0], [1200.0, 395.0]])  # nearly horizontal at its end
    tilt = replace(NOTHING, affine=1, affine_scale=(1, 1), affine_rotate=(10, 10), affine_shift=0)
    moved = Alaug(tilt)({"image": np.zeros((590, 1640, 3), np.uint8), "lanes": [lane]}, np.random.default_rng(0))
    assert 1 < len(moved["lanes"][0]) < 4
    assert (np.diff(moved["lanes"][0][:, 1]) < 0).all()


def test_all_randomness_comes_from_the_given_generator() -> None:
    transform, frame = Alaug(EVERYTHING), golden_frame()
    images = [transform({"image": frame}, np.random.default_rng(seed))["image"].copy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()


def test_crops_of_any_camera_are_resized() -> None:
    viewport = Viewport(width=640, height=256, left=0.1, top=0.4, right=0.9, bottom=0.95)
    sample = {"image": np.full((1080, 1920, 3), 90, np.uint8), "lanes": [np.array([[960.0, 1000.0], [960.0, 500.0]])]}
    result = Alaug(replace(NOTHING, affine=1), viewport)(sample, np.random.default_rng(0))
    assert result["image"].shape == (256, 640, 3)


def test_compose_stops_at_none() -> None:
    calls: list[str] = []
    pipeline = Compose([lambda sample, rng: None, lambda sample, rng: calls.append("reached")])
    assert pipeline({}, np.random.default_rng(0)) is None
    assert not calls


def reference_hsv(image: np.ndarray, hue: int, saturation: int, value: int) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(int) + np.array([hue, saturation, value])
    hsv[..., 0] %= 180
    return cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2BGR)


def recoloured(image: np.ndarray, recolouring: ColourChange) -> np.ndarray:
    scratch = ThreadLocalBuffers()
    packed = image_ops.pack_pixels(image, scratch)
    recolouring.apply(packed)
    return image_ops.unpack(packed, scratch)


@pytest.mark.parametrize("shift", [(10, 5, -4), (-10, 10, 10), (-1, 0, 0), (0, -10, 3), (0, 0, 0)])
def test_hsv_shift_is_the_textbook_one(shift: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    difference = np.abs(recoloured(image, ColourChange(hsv=shift)).astype(int) - reference_hsv(image, *shift))
    assert difference.mean() < 0.6
    assert difference.max() <= 10  # one step of hue in the most saturated pixels
    if shift == (0, 0, 0):
        np.testing.assert_array_equal(recoloured(image, ColourChange(hsv=shift)), image)


def test_contrast_and_brightness_round_and_clip() -> None:
    image = np.array([[[0, 100, 250]]], np.uint8)
    assert recoloured(image, ColourChange(factor=1.1, offset=-5.0)).tolist() == [[[0, 105, 255]]]


def test_channels_are_swapped_before_the_colour_shift() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(recoloured(image, ColourChange(order=(2, 0, 1))), image[..., [2, 0, 1]])
    both = recoloured(image, ColourChange(order=(2, 0, 1), hsv=(4, 3, 2)))
    np.testing.assert_array_equal(both, recoloured(image[..., [2, 0, 1]].copy(), ColourChange(hsv=(4, 3, 2))))


@pytest.mark.parametrize("seed", range(8))
def test_the_warp_equals_that_of_opencv(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 256, (90, 210, 3), dtype=np.uint8), (0, 0), 2)
    matrix = image_ops.affine_matrix(
        (160, 70), rng.uniform(0.2, 3), rng.uniform(-180, 180), tuple(rng.uniform(-1, 1, 2))
    )
    scratch = ThreadLocalBuffers()
    ours = image_ops.unpack(
        image_ops.warp(image_ops.pack_with_border(image, scratch), matrix, (160, 70), scratch), scratch
    ).astype(int)
    theirs = cv2.warpAffine(image, matrix, (160, 70), flags=cv2.INTER_LINEAR)
    assert np.abs(ours - theirs).max() <= 8  # positions are rounded to 1/16 pixel here, to 1/32 there
    assert np.abs(ours - theirs).mean() < 0.6


@pytest.mark.parametrize("step", [(0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (1e-7, -1e-7), (4e4, 0.0)])
def test_extreme_warps_are_handled(step: tuple[float, float]) -> None:
    source = np.random.default_rng(0).integers(0, 1 << 24, (20, 30), dtype=np.uint32)
    inverse = np.array([[step[0], 0.0, 15.0], [step[1], 0.0, 7.0]])
    target = np.ones((4, 50), np.uint32)
    warp_packed(source, inverse, target)
    x, y = 15 + np.arange(50) * step[0], 7 + np.arange(50) * step[1]
    inside = (x > -0.01) & (x < 28.9) & (y > -0.01) & (y < 18.9)
    expected = np.where(inside, source[y.clip(0, 19).astype(int), x.clip(0, 29).astype(int)], 0)
    if step != (1e-7, -1e-7):
        np.testing.assert_array_equal(target[0], expected)
    assert (target == target[0]).all()


def test_the_planar_tensor_equals_a_transposed_image() -> None:
    scratch = ThreadLocalBuffers()
    packed = image_ops.pack_pixels(np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8), scratch)
    image = image_ops.unpack_planes(packed)
    np.testing.assert_array_equal(image, image_ops.unpack(packed, scratch))
    assert torch.equal(to_planar_tensor(image), to_planar_tensor(np.ascontiguousarray(image)))
    assert to_planar_tensor(image).data_ptr() == image.ctypes.data  # passed on, not copied


def test_samples_share_no_memory() -> None:
    pipeline = Compose([Alaug(EVERYTHING), PackCLRNetInputs()]), Compose([Alaug(), PackCLRNetInputs()])
    frame = golden_frame()
    for run in pipeline:
        first, *others = [run({"image": frame, "metainfo": {}}, np.random.default_rng(seed)) for seed in range(6)]
        again = run({"image": frame, "metainfo": {}}, np.random.default_rng(0))
        assert first is not None
        assert again is not None
        assert torch.equal(first["inputs"], again["inputs"])
        assert all(other is not None and not torch.equal(first["inputs"], other["inputs"]) for other in others)


def test_colour_changes_and_the_warp_commute() -> None:
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8), (0, 0), 3)
    change, scratch = ColourChange(order=(1, 0, 2), factor=1.1, offset=9, hsv=(3, -8, 5)), ThreadLocalBuffers()
    matrix = image_ops.affine_matrix((90, 60), 1.1, 7, (0.3, 0.1))
    framed = image_ops.pack_with_border(image, scratch)
    change.apply_with_border(framed)
    before = image_ops.unpack(image_ops.warp(framed, matrix, (90, 60), scratch), scratch).astype(int)
    warped = image_ops.warp(image_ops.pack_with_border(image, scratch), matrix, (90, 60), scratch)
    outside = warped == 0
    change.apply(warped)
    after = image_ops.unpack(warped, scratch)
    assert 0.1 < outside.mean() < 0.9
    assert (before[outside] == 0).all()
    inside = cv2.erode((~outside).astype(np.uint8), np.ones((5, 5))) > 0
    assert np.abs(before - after)[inside].mean() < 1


# Frames decoded at half size


@pytest.mark.parametrize("size", [(1640, 590), (1641, 591), (1645, 587)])
@pytest.mark.parametrize("viewport", [Viewport(), Viewport(left=0.0507, top=0.4391, right=0.983, bottom=0.957)])
@pytest.mark.parametrize("changes", [NOTHING, replace(NOTHING, flip=1), replace(NOTHING, affine=1, flip=0.5)])
def test_a_frame_decoded_at_half_size_shows_the_same_scene(
    tmp_path: Path, size: tuple[int, int], viewport: Viewport, changes: AugmentationConfig
) -> None:
    smooth = np.random.default_rng(1).integers(0, 256, (40, 100, 3), dtype=np.uint8)
    path = str(tmp_path / "frame.jpg")
    cv2.imwrite(path, cv2.resize(smooth, size, interpolation=cv2.INTER_CUBIC), [cv2.IMWRITE_JPEG_QUALITY, 97])
    whole, whole_size = read_frame(path, ThreadLocalBuffers())
    half, half_size = read_frame(path, ThreadLocalBuffers(), half_above=1600)
    assert half.shape == ((size[1] + 1) // 2, (size[0] + 1) // 2, 3)
    assert whole_size == half_size == size
    lanes = [np.array([[700.0, 580.0], [750.0, 300.0]])]
    results = [
        Alaug(changes, viewport)(sample | {"lanes": lanes}, np.random.default_rng(3))
        for sample in ({"image": whole}, {"image": half, "frame_size": size})
    ]
    np.testing.assert_array_equal(results[0]["lanes"][0], results[1]["lanes"][0])
    images = [result["image"][8:-8, 8:-8].astype(np.float32) for result in results]
    assert np.abs(images[0] - images[1]).mean() < 1.5
    for shift in (-0.25, 0.25):  # a position wrong by a quarter of a network pixel, either way, would fit less well
        for direction in ((shift, 0), (0, shift)):
            moved = cv2.warpAffine(results[1]["image"], np.array([[1.0, 0, direction[0]], [0, 1.0, direction[1]]]),
                                   viewport.size)[8:-8, 8:-8].astype(np.float32)  # fmt: skip
            assert np.square(images[0] - images[1]).mean() < np.square(images[0] - moved).mean()


def test_validation_never_decodes_at_half_size() -> None:
    with pytest.raises(ValueError, match="full size"):
        CropResize()({"image": golden_frame()[::2, ::2], "frame_size": (1640, 590)}, np.random.default_rng(0))


@pytest.mark.parametrize("degrees", [0, 45, 90, 135])
@pytest.mark.parametrize("size", [3, 5])
def test_motion_blur_acts_along_its_direction_and_keeps_the_brightness(size: int, degrees: float) -> None:
    image = np.zeros((31, 31, 3), np.uint8)
    image[15, 15] = 250
    blurred = image_ops.motion_blur(image, size, degrees)[..., 0]
    assert abs(int(blurred.sum()) - 250) <= size
    ys, xs = np.nonzero(blurred)
    assert len(xs) == size
    across = np.cos(np.radians(degrees)) * (ys - 15) - np.sin(np.radians(degrees)) * (xs - 15)
    assert np.abs(across).max() < 1
