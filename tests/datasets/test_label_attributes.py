"""What is known of labelled lanes reaches the targets of networks, through every transform."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clrernetlm.config import AugmentationConfig
from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_attribute_files import attributes_path, read_attributes, write_attributes
from clrernetlm.core.lane_attributes import COLOUR_CODES, HIDDEN_CODES, TYPE_CODES, HiddenRange, LaneAttributes
from clrernetlm.core.lane_files import read_lines, write_lines
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets import Alaug, Compose, CropResize, CulaneDataset, PackCLRNetInputs, PackLaneLMInputs, collate
from clrernetlm.datasets.culane import read_described_labels, read_labels
from clrernetlm.datasets.label_attributes import LabelAttributes
from clrernetlm.models.clrernet.targets import EMPTY, ROWS
from clrernetlm.synth import generate_dataset
from tests.helpers.small_culane import write_culane

BONNET, VEHICLE = HIDDEN_CODES["bonnet"], HIDDEN_CODES["vehicle"]
FRAME = (1640, 590)
NONE = AugmentationConfig(flip=0, affine=0, channel_shuffle=0, brightness_contrast=0, hsv=0, blur=0)
WORDS = ("lane_type", "lane_colour", "lane_position", "lane_visible", "lane_hidden_by")


def _sample() -> dict[str, Any]:
    """Two lanes in frame pixels; the first is under the bonnet up to y = 500, the second behind a car above y = 400."""
    rows = np.arange(590.0, 290, -10)
    lanes = [np.stack([500 + 0.5 * (590 - rows), rows], 1), np.stack([1200 - 0.8 * (590 - rows), rows], 1)]
    attributes = [
        LabelAttributes("solid-dashed", "yellow", -1, np.where(rows > 500, BONNET, 0).astype(np.int8)),
        LabelAttributes("dashed", "white", 1, np.where(rows < 400, VEHICLE, 0).astype(np.int8)),
    ]
    image = np.zeros((590, 1640, 3), np.uint8)
    return {"image": image, "lanes": lanes, "attributes": attributes, "metainfo": {}}


def _run(sample: dict[str, Any], *steps: Any, seed: int = 0) -> dict[str, Any]:
    packed = Compose(steps)(sample, np.random.default_rng(seed))
    assert packed is not None
    return packed


@pytest.mark.parametrize("pack", [PackLaneLMInputs(), PackCLRNetInputs(), PackCLRNetInputs(off_image="geometry")])
def test_every_row_has_the_code_of_the_labelled_point_beside_it(pack: PackLaneLMInputs | PackCLRNetInputs) -> None:
    packed = _run(_sample(), CropResize(), pack)
    rows = pack.tokenizer.rows if isinstance(pack, PackLaneLMInputs) else pack._rows
    frame_y = 270 + (rows + 0.5) * 320 / 320 - 0.5
    xs = packed["lane_xs"] if isinstance(pack, PackLaneLMInputs) else packed["lanes"][:, ROWS:]
    on_lane = ((xs >= 0) & (xs < 800)).numpy()
    codes = packed["lane_hidden_by"].numpy()
    assert (codes[~on_lane] == -1).all()
    assert on_lane[:2].sum() > 40
    sure = np.abs(frame_y[None] - np.array([505, 395])[:, None]) > 6
    hidden = frame_y > 505, frame_y < 395
    for lane, code in enumerate((BONNET, VEHICLE)):
        checked = on_lane[lane] & sure[lane]
        assert (codes[lane][checked] == np.where(hidden[lane], code, 0)[checked]).all()
        assert (codes[lane] == code).any()
        assert (codes[lane] == 0).any()
    assert packed["lane_type"].tolist() == [TYPE_CODES["solid-dashed"], TYPE_CODES["dashed"], -1, -1]
    assert packed["lane_colour"].tolist() == [COLOUR_CODES["yellow"], COLOUR_CODES["white"], -1, -1]
    assert packed["lane_position"].tolist() == [-1, 1, 0, 0]
    visible = packed["lane_visible"].numpy()
    np.testing.assert_array_equal(visible, np.where(codes == -1, -1, codes == 0))


@pytest.mark.parametrize("affine", [0.0, 1.0])
def test_the_mirror_changes_sides(affine: float) -> None:
    step = Alaug(replace(NONE, flip=1.0, affine=affine, affine_rotate=(0.0, 0.0)), Viewport())
    packed = _run(_sample(), step, PackLaneLMInputs())
    assert packed["lane_type"].tolist()[:2] == [TYPE_CODES["dashed-solid"], TYPE_CODES["dashed"]]
    assert packed["lane_position"].tolist()[:2] == [1, -1]
    xs = packed["lane_xs"].numpy()
    assert np.nanmean(xs[0]) > np.nanmean(xs[1])  # the lane that was left is right now
    assert (packed["lane_hidden_by"][0] == BONNET).any()


def test_points_and_codes_stay_together_through_every_augmentation() -> None:
    """Lanes turn down in places when they are rotated, and lose these points."""
    sample = _sample()
    rows = np.arange(590.0, 290, -1)
    sample["lanes"][0] = np.stack([np.linspace(0, 1640, len(rows)), rows], 1)
    sample["attributes"][0] = LabelAttributes(hidden_by=(np.arange(len(rows)) % 2).astype(np.int8))
    step, lost = Alaug(replace(NONE, flip=0.5, affine=1.0, affine_rotate=(-40.0, 40.0))), 0
    for seed in range(20):
        moved = step(sample, np.random.default_rng(seed))
        counts = [len(points) for points in moved["lanes"]]
        assert [len(one.hidden_by) for one in moved["attributes"]] == counts
        lost += counts[0] < len(rows)
        PackCLRNetInputs()(moved, np.random.default_rng(0))
    assert lost > 0


def test_rows_that_the_published_targets_move_keep_their_codes() -> None:
    """The lane leaves at the side; its x off the image is stored below the visible rows."""
    sample = _sample()
    rows = np.arange(590.0, 290, -10)
    sample["lanes"] = [np.stack([1500 + 1.5 * (590 - rows), rows], 1)]
    sample["attributes"] = [
        replace(sample["attributes"][1], hidden_by=np.where(rows < 540, VEHICLE, 0).astype(np.int8))
    ]
    found = {}
    for off_image in ("official", "geometry"):
        packed = _run(sample, CropResize(), PackCLRNetInputs(off_image=off_image))  # type: ignore[arg-type]
        xs, codes = packed["lanes"][0, ROWS:].numpy(), packed["lane_hidden_by"][0].numpy()
        found[off_image] = {float(x): int(code) for x, code in zip(xs, codes, strict=True) if 0 <= x < 800}
        assert (xs[(xs != EMPTY) & (codes == -1)] >= 800).all()
    assert found["official"] == found["geometry"]
    assert set(found["official"].values()) == {0, VEHICLE}


def test_without_a_file_everything_is_unknown_and_the_rest_as_before(tmp_path: Path) -> None:
    write_culane(tmp_path, images=2)
    for pack in (PackCLRNetInputs(), PackLaneLMInputs()):
        dataset = CulaneDataset(tmp_path, "list/train_gt.txt", Compose([CropResize(), pack]))
        batch = collate([dataset[0], dataset[1]])
        for name in WORDS[:2]:
            assert batch[name].shape == (2, 4)
            assert (batch[name] == -1).all()
            assert batch[name].dtype == torch.int64
        assert (batch["lane_position"] == 0).all()
        for name in WORDS[3:]:
            assert batch[name].shape == (2, 4, pack.num_points)
            assert (batch[name] == -1).all()


def test_generated_roads_teach_what_their_files_say(tmp_path: Path) -> None:
    generate_dataset(tmp_path / "roads", 3, 0, 0, seed=2, size=(328, 118), workers=1, progress=False)
    pipeline = Compose([CropResize(), PackLaneLMInputs()])
    dataset = CulaneDataset(tmp_path / "roads", "list/train_gt.txt", pipeline)
    for index in range(len(dataset)):
        sample = dataset[index]
        lines = tmp_path / "roads" / dataset.image_path(index).lstrip("/").replace(".jpg", ".lines.txt")
        described = {(TYPE_CODES[lane.type], lane.position) for lane in read_attributes(attributes_path(lines)).lanes}
        valid = sample["lane_valid_mask"]
        packed = zip(sample["lane_type"][valid].tolist(), sample["lane_position"][valid].tolist(), strict=True)
        assert set(packed) <= described
        on_lane = sample["lane_tokens_x"] > 0
        assert ((sample["lane_visible"] >= 0) == on_lane).all()


def test_labels_written_from_the_top_keep_their_codes(tmp_path: Path) -> None:
    image, lines = str(tmp_path / "a.jpg"), tmp_path / "a.lines.txt"
    upwards = np.stack([np.arange(8.0), np.arange(80.0, 0, -10)], 1)
    write_lines(lines, [upwards[::-1], upwards[:1], upwards])
    hidden = (HiddenRange(6, 7, "bonnet"),), None, (HiddenRange(0, 1, "bonnet"),)
    described = [LaneAttributes(count, hidden=ranges) for count, ranges in zip((8, 1, 8), hidden, strict=True)]
    write_attributes(attributes_path(lines), described, (100, 90))
    lanes, attributes = read_described_labels(image, (100, 90))
    assert attributes is not None
    for points, one, plain in zip(lanes, attributes, read_labels(image), strict=True):
        np.testing.assert_array_equal(points, plain)
        assert one.hidden_by is not None
        assert one.hidden_by.tolist() == [BONNET, BONNET, 0, 0, 0, 0, 0, 0]


def test_what_does_not_fit_is_an_error(tmp_path: Path) -> None:
    write_culane(tmp_path, images=1)
    (lines,) = tmp_path.rglob("*.lines.txt")
    write_attributes(attributes_path(lines), [LaneAttributes(len(lane)) for lane in read_lines(lines)[:-1]], FRAME)
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", Compose([CropResize(), PackLaneLMInputs()]))
    with pytest.raises(UserError, match=r"00000\.lanes\.json: 3 lanes, but 00000\.lines\.txt has 4"):
        dataset[0]

    def drop_a_lane(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return sample | {"lanes": sample["lanes"][1:]}

    with pytest.raises(UserError, match="sample: `lanes` and `attributes` do not fit"):
        _run(_sample(), drop_a_lane, CropResize(), PackLaneLMInputs())
