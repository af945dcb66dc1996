"""CulaneDataset: lists of every form, frames that are left out or replaced, and errors."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import warnings
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clrernetlm.config import Config
from clrernetlm.core.errors import UserError
from clrernetlm.core.image_list import read_image_list
from clrernetlm.core.images import ThreadLocalBuffers, read_frame, read_image
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets import Alaug, Compose, CropResize, CulaneDataset, PackCLRNetInputs, build_dataset, collate
from tests.helpers.small_culane import frame, write_culane
from tests.helpers.timing import cpu_time_ratio

TRAIN = Compose([Alaug(), PackCLRNetInputs()])
PLAIN = Compose([CropResize(), PackCLRNetInputs()])


def keep(sample: dict, rng: np.random.Generator) -> dict:
    return sample | {"image": sample["image"].copy(), "draw": rng.random()}


@pytest.mark.parametrize(("masks", "flags"), [(False, False), (True, False), (True, True), (False, True)])
def test_lists_of_every_form(tmp_path: Path, masks: bool, flags: bool) -> None:
    names = write_culane(tmp_path, masks=masks, flags=flags)
    listed = read_image_list(tmp_path / "list/train_gt.txt")
    assert [os.fsdecode(image) for image in listed.images] == names
    assert (listed.masks is not None, listed.flags is not None) == (masks, flags)
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", TRAIN)
    sample = dataset[1]
    assert sample["inputs"].shape == (3, 320, 800)
    assert sample["lanes"].shape == (4, 78)
    assert dataset.has_masks == ("masks" in sample) == masks
    assert sample["metainfo"] == {"path": names[1], "frame_size": (1640, 590), "index": 1}


def test_masks_are_read_only_when_used(tmp_path: Path) -> None:
    write_culane(tmp_path, images=1)
    (tmp_path / "laneseg/driver_1/clip_0.MP4/00000.png").unlink()
    assert "masks" not in CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN, use_masks=False)[0]
    with pytest.raises(UserError, match=r"00000\.png: no such image"):
        CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN)[0]


def test_test_mode_needs_no_labels(tmp_path: Path) -> None:
    write_culane(tmp_path)
    for label in tmp_path.rglob("*.lines.txt"):
        label.unlink()
    sample = CulaneDataset(tmp_path, "list/test.txt", PLAIN, test_mode=True)[0]
    assert sorted(sample) == ["inputs", "metainfo"]


def test_images_of_different_sizes(tmp_path: Path) -> None:
    write_culane(tmp_path, images=3)
    cv2.imwrite(str(tmp_path / "driver_1/clip_0.MP4/00001.jpg"), frame(1, (1280, 720)))
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN, use_masks=False)
    batch = collate([dataset[i] for i in range(3)])
    assert batch["inputs"].shape == (3, 3, 320, 800)
    assert [meta["frame_size"] for meta in batch["metainfo"]] == [(1640, 590), (1280, 720), (1640, 590)]
    with pytest.raises(UserError, match="the mask is 1640x590, but its image is 1280x720"):
        CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN)[1]


def test_an_empty_label_file_is_a_frame_without_lanes_and_a_missing_one_an_error(tmp_path: Path) -> None:
    write_culane(tmp_path, images=1)
    label = tmp_path / "driver_1/clip_0.MP4/00000.lines.txt"
    label.write_text("")
    assert not CulaneDataset(tmp_path, "list/train_gt.txt", TRAIN)[0]["lanes"][:, 1].any()
    label.unlink()
    with pytest.raises(UserError, match=r"00000\.lines\.txt: no label file; write one"):
        CulaneDataset(tmp_path, "list/train_gt.txt", TRAIN)[0]


def test_labels_in_any_order_are_read_bottom_first(tmp_path: Path) -> None:
    write_culane(tmp_path, images=1)
    (tmp_path / "driver_1/clip_0.MP4/00000.lines.txt").write_text("10 300 20 400 30 500\n5 590\n10 500 7 500 9 400\n")
    lanes = CulaneDataset(tmp_path, "list/train_gt.txt", keep)[0]["lanes"]
    assert [lane.tolist() for lane in lanes] == [[[30, 500], [20, 400], [10, 300]], [[10, 500], [9, 400]]]


def test_a_lane_that_turns_back_gives_its_longest_part_and_a_warning(tmp_path: Path) -> None:
    write_culane(tmp_path, images=1)
    label = tmp_path / "driver_1/clip_0.MP4/00000.lines.txt"
    label.write_text("10 590 20 400\n100 590 120 500 140 400 300 405 400 505\n")
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", keep)
    with pytest.warns(UserWarning, match=r"00000\.lines\.txt, line 2: the lane turns back: .* y = 590 to 400, is used"):
        lanes = dataset[0]["lanes"]
    assert [lane.tolist() for lane in lanes] == [[[10, 590], [20, 400]], [[100, 590], [120, 500], [140, 400]]]


# Randomness


def test_samples_depend_only_on_seed_epoch_and_index(tmp_path: Path) -> None:
    write_culane(tmp_path, images=6)
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", TRAIN, seed=3)

    def epoch(number: int, workers: int) -> list[torch.Tensor]:
        dataset.set_epoch(number)
        loader = DataLoader(
            dataset,
            batch_size=2,
            num_workers=workers,
            collate_fn=collate,
            multiprocessing_context="fork" if workers else None,
        )
        return [batch["inputs"] for batch in loader]

    first = epoch(0, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, epoch(0, 2), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, epoch(1, 0), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, epoch(0, 0), strict=True))
    other = CulaneDataset(tmp_path, "list/train_gt.txt", TRAIN, seed=4)
    assert not torch.equal(other[0]["inputs"], dataset[0]["inputs"])


def test_data_sets_can_be_pickled_to_spawned_workers(tmp_path: Path) -> None:
    write_culane(tmp_path, images=1)
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", TRAIN)
    expected = dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 10_000  # no buffer goes along
    assert torch.equal(copy[0]["inputs"], expected["inputs"])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert torch.equal(pool.apply(dataset.__getitem__, (0,))["inputs"], expected["inputs"])


# Decoding at half size


def test_only_training_decodes_at_half_size(tmp_path: Path) -> None:
    write_culane(tmp_path, images=3)
    cv2.imwrite(str(tmp_path / "driver_1/clip_0.MP4/00001.jpg"), frame(1, (1280, 464)))  # too small to be halved
    config = Config()
    config.data.root, config.data.diff_file, config.data.decode = str(tmp_path), None, "half"
    config.data.val_list = config.data.train_list
    config.data.use_masks = False
    for split, reduced in (("train", [True, False, True]), ("val", [False] * 3)):
        dataset = build_dataset(config, split)
        dataset.pipeline = keep
        samples = [dataset[i] for i in range(3)]
        assert ["frame_size" in sample for sample in samples] == reduced
        assert [sample["metainfo"]["frame_size"] for sample in samples] == [(1640, 590), (1280, 464), (1640, 590)]
    assert samples[0]["image"].shape == (590, 1640, 3)
    whole, half = (
        CulaneDataset(tmp_path, "list/train_gt.txt", TRAIN, half_above=above, use_masks=False)[2]
        for above in (9999, 1640)
    )
    assert torch.equal(whole["lanes"], half["lanes"])
    assert (whole["inputs"].float() - half["inputs"].float()).abs().mean() < 4


# What is left out and what is replaced


@pytest.mark.parametrize("key", ["data", "arr_0"])
def test_nearly_identical_frames_are_left_out(tmp_path: Path, key: str) -> None:
    names = write_culane(tmp_path)
    np.savez(tmp_path / "list/diffs.npz", **{key: np.array([255, 3.0, 15.0, 14.9])})
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN, diff_file="list/diffs.npz")
    assert [dataset[i]["metainfo"]["path"] for i in range(len(dataset))] == [names[0], names[2]]
    assert len(CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN, diff_file="list/diffs.npz", test_mode=True)) == 4


def test_differences_of_another_list_are_refused(tmp_path: Path) -> None:
    write_culane(tmp_path)
    np.savez(tmp_path / "list/diffs.npz", data=np.zeros(7))
    with pytest.raises(UserError, match=r"diffs\.npz: 7 differences for the 4 images .*calculate_frame_diff"):
        CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN, diff_file="list/diffs.npz")
    (tmp_path / "list/diffs.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match=r"diffs\.npz: not a readable \.npz file"):
        CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN, diff_file="list/diffs.npz")


def test_an_image_without_usable_lanes_is_replaced_by_another(tmp_path: Path) -> None:
    names = write_culane(tmp_path)
    (tmp_path / names[0][1:]).with_suffix(".lines.txt").write_text("100 200 120 150\n")  # above the viewport
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN)
    replaced = Counter()
    for epoch in range(12):
        dataset.set_epoch(epoch)
        sample = dataset[0]
        assert sample["metainfo"]["path"] == dataset[0]["metainfo"]["path"] != names[0]
        assert sample["lanes"][:, 1].any()
        replaced[sample["metainfo"]["path"]] += 1
    assert len(replaced) > 1


def test_a_data_set_without_any_usable_lane_is_an_error(tmp_path: Path) -> None:
    for name in write_culane(tmp_path, images=2):
        (tmp_path / name[1:]).with_suffix(".lines.txt").write_text("100 200 120 150\n")
    with pytest.raises(UserError, match=r"00000\.jpg: no usable lane in it nor in \d+ others"):
        CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN)[0]


@pytest.mark.parametrize("content", ["half", "empty", "text"])
def test_a_broken_image_is_replaced_in_training_and_an_error_in_tests(tmp_path: Path, content: str) -> None:
    names = write_culane(tmp_path)
    path = tmp_path / names[1][1:]
    whole = path.read_bytes()
    path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"no image"}[content])
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN)
    dataset[0]  # fills the frame buffer, whose content must not be taken for the broken image
    with pytest.warns(UserWarning, match=r"00001\.jpg: .*another image takes its place"):
        assert dataset[1]["metainfo"]["path"] != names[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset[1]  # said once
    with pytest.raises(UserError, match=r"00001\.jpg: (the JPEG is cut off|not a readable image)"):
        CulaneDataset(tmp_path, "list/test.txt", PLAIN, test_mode=True)[1]


# Errors


def test_errors_about_missing_files_give_the_fix(tmp_path: Path) -> None:
    names = write_culane(tmp_path)
    with pytest.raises(UserError, match=r"nolist\.txt: the image list cannot be read .*check data\.root"):
        CulaneDataset(tmp_path, "nolist.txt", PLAIN)
    with pytest.raises(UserError, match=r"nodiff\.npz: no such file; make it with"):
        CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN, diff_file="nodiff.npz")
    (tmp_path / names[2][1:]).unlink()
    with pytest.raises(UserError, match=r"00002\.jpg: no such image; check data\.root"):
        CulaneDataset(tmp_path, "list/train_gt.txt", PLAIN)[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n", "the image list is empty"),
        ("/a.jpg /a.png 1 1\n/b.jpg\n", "line 2"),
        ("/a.jpg 1\n\n/b.jpg 2", "line 3"),
        ("/a.jpg\n/\udce4.jpg\n", "line 2: not UTF-8"),
    ],
)
def test_errors_in_lists_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.txt").write_bytes(os.fsencode(text))
    with pytest.raises(UserError, match=message):
        read_image_list(tmp_path / "list.txt")


def test_a_list_of_culanes_length_is_read_fast(tmp_path: Path) -> None:
    row = "/driver_23_30frame/05151640_0419.MP4/{0:05d}.jpg /laneseg_label_w16/driver_23/0419.MP4/{0:05d}.png 1 1 1 0\n"
    (tmp_path / "list.txt").write_text("".join(row.format(i) for i in range(88_880)))
    # Against the least that any reader has to do.
    splitting = partial(lambda path: [line.split() for line in path.read_bytes().splitlines()], tmp_path / "list.txt")
    assert cpu_time_ratio(lambda: read_image_list(tmp_path / "list.txt"), splitting) < 20
    listed = read_image_list(tmp_path / "list.txt")
    assert listed.masks is not None
    assert listed.flags is not None
    assert len(listed) == 88_880
    assert listed.images.nbytes + listed.masks.nbytes + listed.flags.nbytes < 20e6


# Decoding


def test_reused_buffers_hold_the_same_pixels(tmp_path: Path) -> None:
    scratch = ThreadLocalBuffers()
    for number, size in enumerate([(1640, 590), (1640, 590), (640, 480), (1640, 590)]):
        path = str(tmp_path / f"{number}.jpg")
        cv2.imwrite(path, frame(number, size))
        np.testing.assert_array_equal(read_frame(path, scratch)[0], read_image(path, cv2.IMREAD_COLOR))
    cv2.imwrite(str(tmp_path / "a.png"), frame(9, (64, 48)))
    np.testing.assert_array_equal(read_frame(str(tmp_path / "a.png"), scratch)[0], frame(9, (64, 48)))


def test_a_frame_that_ends_in_the_sentinel_value_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "uniform.jpg")
    cv2.imwrite(path, np.full((64, 64, 3), (83, 19, 211), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 100])
    np.testing.assert_array_equal(read_frame(path, ThreadLocalBuffers())[0], read_image(path, cv2.IMREAD_COLOR))


# The config


def test_build_dataset_follows_the_config(tmp_path: Path) -> None:
    write_culane(tmp_path, size=(820, 295))
    config = Config()
    config.model.viewport = Viewport(width=320, height=128)
    config.model.max_lanes = 6
    config.data.root = str(tmp_path)
    config.data.diff_file, config.data.val_list = None, "list/test.txt"
    train, val = build_dataset(config, "train"), build_dataset(config, "val")
    assert train.has_masks
    sample = train[0]
    assert sample["inputs"].shape == (3, 128, 320)
    assert sample["masks"].shape == (128, 320)
    assert sample["lanes"].shape == (6, 78)
    assert val.test_mode
    assert val[0]["metainfo"]["frame_size"] == (820, 295)
    config.model.loss = replace(config.model.loss, seg_weight=0.0)
    assert not build_dataset(config, "train").has_masks


def test_collate_stacks_tensors_and_lists_the_rest(tmp_path: Path) -> None:
    names = write_culane(tmp_path)
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", TRAIN)
    batch = collate([dataset[0], dataset[3]])
    assert {key: tuple(batch[key].shape) for key in ("inputs", "lanes", "masks")} == {
        "inputs": (2, 3, 320, 800),
        "lanes": (2, 4, 78),
        "masks": (2, 320, 800),
    }
    assert [meta["path"] for meta in batch["metainfo"]] == [names[0], names[3]]
