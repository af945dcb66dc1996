"""Masks: lane numbers are read from every unambiguous file, and other files are refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clrernetlm.core.errors import UserError
from clrernetlm.datasets import CulaneDataset, check_data
from clrernetlm.datasets.contact_sheet import write_contact_sheet
from clrernetlm.datasets.masks import read_mask
from tests.helpers.small_culane import write_culane

NUMBERS = np.zeros((30, 50), np.uint8)
for lane in range(1, 5):
    NUMBERS[:, 10 * lane : 10 * lane + 3] = lane
BINARY = (NUMBERS > 0).astype(np.uint8) * 255
VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]  # display colours of numbers 0 to 4


def write(path: Path, image: NDArray[np.generic]) -> str:
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return str(path)


def png(path: Path, numbers: NDArray[np.uint8], bits: int, palette: list[tuple[int, int, int]] | None) -> str:
    """Return a PNG of `bits` per pixel: palette indices, or without a palette grey."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = numbers.shape
    unpacked = (numbers[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(unpacked.reshape(height, width * bits), axis=1)
    pixels = zlib.compress(np.insert(rows, 0, 0, axis=1).tobytes())
    header = struct.pack(">IIBBBBB", width, height, bits, 0 if palette is None else 3, 0, 0, 0)
    colours = b"" if palette is None else chunk(b"PLTE", bytes(sum(palette, ()))) + chunk(b"tRNS", b"\0")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colours + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return str(path)


@pytest.mark.parametrize(
    "image",
    [
        NUMBERS,
        NUMBERS.astype(np.uint16),
        NUMBERS.astype(np.uint16) * 257,
        cv2.merge([NUMBERS] * 3),
        cv2.merge([NUMBERS.astype(np.uint16)] * 3),
        cv2.merge([*[NUMBERS] * 3, np.full_like(NUMBERS, 255)]),
        cv2.merge([*[NUMBERS] * 3, BINARY]),
        cv2.merge([np.zeros_like(NUMBERS), np.zeros_like(NUMBERS), NUMBERS]),
    ],
    ids=["grey", "16 bits", "stretched", "bgr", "bgr, 16 bits", "opaque", "lanes opaque", "red channel"],
)
def test_lane_numbers_are_read_from_all_supported_formats(tmp_path: Path, image: NDArray[np.generic]) -> None:
    mask = read_mask(write(tmp_path / "a.png", image))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, NUMBERS)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("palette", [VOC, [(i, i, i) for i in range(5)], [(i * 60,) * 3 for i in range(5)]])
def test_palette_masks_give_their_indices(tmp_path: Path, bits: int, palette: list[tuple[int, int, int]]) -> None:
    np.testing.assert_array_equal(read_mask(png(tmp_path / "a.png", NUMBERS, bits, palette)), NUMBERS)


def test_an_optimised_grey_mask_gives_its_grey_values(tmp_path: Path) -> None:
    greys = [4, 0, 2, 255, 1, 3]
    indices = np.array([greys.index(grey) for grey in range(5)], np.uint8)[NUMBERS]
    palette = [(grey, grey, grey) for grey in greys]
    np.testing.assert_array_equal(read_mask(png(tmp_path / "a.png", indices, 4, palette)), NUMBERS)


@pytest.mark.parametrize("bits", [2, 4])
def test_values_of_few_bits_are_not_rescaled(tmp_path: Path, bits: int) -> None:
    numbers = np.minimum(NUMBERS, 2**bits - 1)
    np.testing.assert_array_equal(read_mask(png(tmp_path / "a.png", numbers, bits, None)), numbers)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (BINARY, "0 and 255 alone"),
        (cv2.merge([BINARY] * 3), "0 and 255 alone"),
        (NUMBERS * 50, "the value 50, which is no lane number"),
        (NUMBERS.astype(np.uint16) * 256, "uint16 values up to 1024"),
        (np.array(VOC, np.uint8)[NUMBERS], "in colours"),
        (cv2.merge([BINARY, np.zeros_like(BINARY), np.zeros_like(BINARY)]), "in colours"),
        (cv2.merge([*[NUMBERS] * 3, np.full_like(NUMBERS, 99)]), "partly transparent"),
    ],
)
def test_ambiguous_masks_are_refused(tmp_path: Path, image: NDArray[np.generic], message: str) -> None:
    with pytest.raises(UserError, match=rf"a\.png: the mask .*{message}.*; write a grey PNG"):
        read_mask(write(tmp_path / "a.png", image))


@pytest.mark.parametrize("palette", [None, [(0, 0, 0), (255, 255, 255)]])
def test_black_and_white_is_refused_in_one_bit_too(tmp_path: Path, palette: list[tuple[int, int, int]] | None) -> None:
    path = png(tmp_path / "a.png", NUMBERS.clip(0, 1), 1, palette)
    with pytest.raises(UserError, match="0 and 255 alone"):
        read_mask(path)
    np.testing.assert_array_equal(read_mask(path, labelled=False), BINARY)  # no lane: 255 are pixels to ignore
    np.testing.assert_array_equal(
        read_mask(png(tmp_path / "b.png", NUMBERS.clip(0, 1), 1, VOC[:2])), NUMBERS.clip(0, 1)
    )


def test_jpeg_masks_are_refused_and_ignored_pixels_are_accepted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.jpg: a mask stored as JPEG"):
        read_mask(write(tmp_path / "a.jpg", NUMBERS))
    ignored = np.where(NUMBERS == 2, 255, NUMBERS).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "a.png", ignored)), ignored)


@pytest.mark.parametrize("cut", [10, 40, 60, -20])
def test_broken_palettes_are_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.png"
    png(path, NUMBERS, 8, VOC)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"a\.png: "):
        read_mask(str(path))
    with pytest.raises(UserError, match=r"b\.png: the mask's palette lacks the colour 4"):
        read_mask(png(tmp_path / "b.png", NUMBERS, 8, VOC[:3]))


def test_training_and_check_data_give_the_same_error(tmp_path: Path) -> None:
    names = write_culane(tmp_path, images=2, size=(328, 118))
    masks = [tmp_path / f"laneseg{name[:-4]}.png" for name in names]
    numbers = cv2.imread(str(masks[0]), cv2.IMREAD_UNCHANGED)
    png(masks[0], numbers, 8, VOC)
    write(masks[1], (numbers > 0) * np.uint8(255))
    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", lambda sample, rng: sample)
    np.testing.assert_array_equal(dataset[0]["mask"], numbers)
    with pytest.raises(UserError, match=r"00001\.png: the mask holds 0 and 255 alone") as refused:
        dataset[1]
    problems = check_data(tmp_path, contact_sheet=None, workers=1).problems
    assert [str(problem) for problem in problems] == [str(refused.value)]


def test_the_contact_sheet_shows_masks(tmp_path: Path) -> None:
    names = write_culane(tmp_path, images=1, size=(328, 118))
    image, mask = str(tmp_path / names[0][1:]), str(tmp_path / f"laneseg{names[0][:-4]}.png")
    sheets = []
    for shown in (None, mask, str(tmp_path / "missing.png")):
        write_contact_sheet(tmp_path / "sheet.jpg", [(image, shown)])
        sheets.append(cv2.imread(str(tmp_path / "sheet.jpg"))[:172, :480].astype(int))
    numbers = cv2.resize(cv2.imread(mask, cv2.IMREAD_UNCHANGED), (480, 173), interpolation=cv2.INTER_NEAREST)[:172]
    changed = np.abs(sheets[1] - sheets[0]).max(axis=2) > 60
    assert changed[numbers > 0].mean() > 0.4
    assert changed[numbers == 0].mean() < 0.05
    assert not (np.abs(sheets[2] - sheets[0]).max(axis=2) > 60)[numbers > 0].mean() > 0.4
