"""Image files: every reader gives the same image or error, for all formats and orientations."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from clrernetlm.core.errors import UserError
from clrernetlm.core.image_headers import MAX_IMAGE_PIXELS, image_size
from clrernetlm.core.images import ThreadLocalBuffers, read_frame, read_image
from clrernetlm.core.memory import peak_memory, reset_peak_memory
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets import CropResize, CulaneDataset, check_data
from clrernetlm.datasets.frame_difference import frame_differences
from clrernetlm.datasets.masks import read_mask
from clrernetlm.deploy.export.quantisation import calibration_inputs
from clrernetlm.metrics.frame_scale import listed_frame_size
from clrernetlm.reports.worst_images import mistake_picture
from tests.helpers.exif_images import SUFFIXES, apply_orientation, encode, exif, huge_header_image, png_chunk
from tests.helpers.small_culane import frame

PICTURE = frame(3, (90, 50))
WHOLE = Viewport(width=90, height=50, top=0.0)
ORIENTATIONS = [pytest.param(n, id=f"orientation{n}") for n in range(1, 9)]


def shown(path: Path, suffix: str, orientation: int) -> np.ndarray:
    """Return the stored image as it should be read; WebP is not rotated, as in OpenCV."""
    raw = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return raw if suffix in (".tif", ".webp") else apply_orientation(raw, orientation)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_reader_gives_the_same_image(tmp_path: Path, suffix: str, orientation: int) -> None:
    name = f"a{suffix}"
    path = tmp_path / name
    path.write_bytes(encode(suffix, PICTURE, orientation))
    expected = shown(path, suffix, orientation)
    np.testing.assert_array_equal(expected, cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR))
    size = expected.shape[1], expected.shape[0]
    np.testing.assert_array_equal(read_image(str(path)), expected)
    scratch = ThreadLocalBuffers()
    for _ in range(2):
        image, found_size = read_frame(str(path), scratch)
        np.testing.assert_array_equal(image, expected)
        assert found_size == size
    half, found_size = read_frame(str(path), scratch, half_above=1)
    assert found_size == size
    assert half.shape in (expected.shape, ((size[1] + 1) // 2, (size[0] + 1) // 2, 3))
    grown = cv2.resize(half, size, interpolation=cv2.INTER_LINEAR)
    assert np.abs(grown.astype(int) - expected).mean() < 8
    assert image_size(path) == listed_frame_size(tmp_path, name) == size

    (tmp_path / "list").mkdir()
    (tmp_path / "list/test.txt").write_text(f"{name}\n")
    sample = CulaneDataset(tmp_path, "list/test.txt", CropResize(WHOLE), test_mode=True)[0]
    np.testing.assert_array_equal(sample["image"], WHOLE.apply(expected))
    assert sample["metainfo"]["frame_size"] == size
    report = check_data(tmp_path, contact_sheet=None, workers=1)
    assert report.problems == []
    assert dict(report.frame_sizes) == {size: 1}
    np.testing.assert_array_equal(calibration_inputs(str(tmp_path), WHOLE)[0]["images"][0], WHOLE.apply(expected))
    (tmp_path / "a.lines.txt").write_text("")
    line = {"path": f"/{name}", "hits": {"0.5": []}, "tp": {"0.5": 0}, "fp": {"0.5": 0}, "fn": {"0.5": 0}}
    if suffix != ".late.png":  # its label would be a.late.lines.txt
        _, drawn = mistake_picture(line, tmp_path, tmp_path, tmp_path)
        assert drawn.shape == expected.shape


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_masks_are_rotated_like_images(tmp_path: Path, suffix: str, orientation: int) -> None:
    numbers = (np.arange(90 * 50).reshape(50, 90) // 90 % 5).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(suffix, cv2.merge([numbers] * 3), orientation))
    np.testing.assert_array_equal(read_mask(str(path)), apply_orientation(numbers, orientation))


def test_palette_masks_are_rotated_too(tmp_path: Path) -> None:
    numbers = (np.arange(90 * 50).reshape(50, 90) % 5).astype(np.uint8)
    grey = cv2.imencode(".png", numbers)[1].tobytes()
    header = b"IHDR" + grey[16:25] + b"\3" + grey[26:29]
    palette = png_chunk(b"PLTE", bytes(range(0, 150, 10))) + png_chunk(b"eXIf", exif(6))
    path = tmp_path / "a.png"
    path.write_bytes(grey[:8] + png_chunk(b"IHDR", header[4:]) + palette + grey[33:])
    np.testing.assert_array_equal(read_mask(str(path)), apply_orientation(numbers, 6))


def test_invalid_exif_blocks_rotate_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    whole = encode(".jpg", PICTURE, 6)
    at = whole.index(b"Exif\0\0") + 6
    for block in (b"", b"MM", exif(0), exif(9), exif(77), b"\xff" * 26, exif(6)[:-12], b"II" + exif(6)[2:]):
        path.write_bytes(whole[:at] + block.ljust(26, b"\0")[:26] + whole[at + 26 :])
        assert image_size(path) == (90, 50)
        assert read_image(str(path)).shape == PICTURE.shape
    large = b"\xff\xe2" + (60_000).to_bytes(2, "big") + b"x" * 59_998  # the orientation is behind the first 64 KB
    path.write_bytes(whole[:2] + large + large + whole[2:])
    assert image_size(path) == (50, 90)
    assert read_frame(str(path), ThreadLocalBuffers())[1] == (50, 90)


READERS: dict[str, Callable[[str], object]] = {
    "read_image": read_image,
    "read_frame": lambda path: read_frame(path, ThreadLocalBuffers()),
    "image_size": image_size,
    "read_mask": read_mask,
    "calibration_inputs": lambda path: calibration_inputs(os.path.dirname(path), WHOLE),
}


@pytest.mark.parametrize("appended", [b"x" * 5000, b"\0" * 3000, b"\xff\xe0" * 2000, b"\xff" * 3000])
def test_data_after_the_end_of_a_jpeg_is_ignored_by_every_reader(tmp_path: Path, appended: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(".jpg", PICTURE, 1) + appended)
    expected = cv2.imdecode(np.fromfile(path, np.uint8), 1)
    np.testing.assert_array_equal(read_image(str(path)), expected)
    np.testing.assert_array_equal(read_frame(str(path), ThreadLocalBuffers())[0], expected)
    (tmp_path / "list").mkdir()
    (tmp_path / "list/test.txt").write_text("a.jpg\n")
    assert check_data(tmp_path, contact_sheet=None, workers=1).problems == []
    np.testing.assert_array_equal(
        CulaneDataset(tmp_path, "list/test.txt", CropResize(WHOLE), test_mode=True)[0]["image"], WHOLE.apply(expected)
    )


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("appended", [b"", b"x" * 5000])
def test_a_truncated_jpeg_is_an_error_in_every_reader(tmp_path: Path, appended: bytes, progressive: int) -> None:
    path = tmp_path / "a.jpg"
    data = cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    for cut in (len(data) * 2 // 3, len(data) - 2):
        path.write_bytes(data[:cut] + appended)
        for name in ("read_image", "read_frame"):
            with pytest.raises(UserError, match=r"a\.jpg: the JPEG is cut off"):
                READERS[name](str(path))
        (tmp_path / "list").mkdir(exist_ok=True)
        (tmp_path / "list/test.txt").write_text("a.jpg\n")
        assert "the JPEG is cut off" in str(check_data(tmp_path, contact_sheet=None, workers=1).problems)


ENCODED = [".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pam", ".pfm", ".jp2", ".ras", ".hdr"]


@pytest.mark.parametrize("suffix", ENCODED)
def test_headers_of_all_formats_give_the_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    picture = np.float32(PICTURE) if suffix in (".pfm", ".hdr") else PICTURE
    path.write_bytes(cv2.imencode(suffix, picture if suffix not in (".pgm", ".pbm") else PICTURE[..., 0])[1].tobytes())
    assert image_size(path) == (90, 50)
    assert read_image(str(path)).shape == (50, 90, 3)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".bmp", ".ppm", ".pgm", ".pbm", ".tif", ".webp", ".jp2", ".ras", ".hdr"]
)
def test_headers_of_billions_of_pixels_are_refused_before_decoding(
    tmp_path: Path, suffix: str, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(huge_header_image(suffix))
    if reader == "calibration_inputs" and suffix not in (".png", ".jpg", ".bmp", ".tif", ".webp"):
        pytest.skip("not in folders of images")
    decoded: list[object] = []
    for name in ("imdecode", "imread", "imreadmulti", "imdecodemulti"):
        monkeypatch.setattr(cv2, name, lambda *arguments, **settings: decoded.append(arguments))
    with pytest.raises(UserError, match=rf"a\{suffix}: the header says \d+x\d+, more than \d+ million pixels"):
        READERS[reader](str(path))
    assert not decoded


@pytest.mark.parametrize("at", [8, 33])  # the header's chunk, the first one behind it
@pytest.mark.parametrize("reader", ["read_image", "read_mask", "calibration_inputs"])
def test_a_png_chunk_longer_than_its_file_takes_no_memory(tmp_path: Path, reader: str, at: int) -> None:
    data = bytearray(encode(".png", PICTURE, 1))
    data[at : at + 4] = (2_000_000_000).to_bytes(4, "big")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    reset_peak_memory(torch.device("cpu"))
    before = peak_memory(torch.device("cpu")) or 0
    with pytest.raises(UserError, match=r"a\.png: not a readable image"):
        READERS[reader](str(path))
    assert (peak_memory(torch.device("cpu")) or 0) - before < 200e6


def test_overflowing_sizes_are_refused(tmp_path: Path) -> None:
    for suffix in (".png", ".bmp", ".ras"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(huge_header_image(suffix, 2**31 - 1, 2**31 - 1))
        with pytest.raises(UserError, match="more than 200 million pixels"):
            read_image(str(path))
        path.write_bytes(huge_header_image(suffix, 0, 5))
        with pytest.raises(UserError, match="not a readable image"):
            read_image(str(path))
    assert MAX_IMAGE_PIXELS >= 16320 * 12240  # the largest sensors of phones


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"II*\0",
        b"RIFFxxxxWEBP",
        b"P6 ",
        b"GIF89a",
        b"\xff\xd8" + b"\xff" * 9000,
        b"hello",
    ],
)
def test_truncated_images_are_named(tmp_path: Path, content: bytes, reader: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jpg: (not a readable image|the JPEG is cut off)"):
        READERS[reader](str(path))


def test_folders_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(UserError, match=r"a\.jpg: a folder, not an image"):
        read_image(str(tmp_path / "a.jpg"))
    with pytest.raises(UserError, match=r"b\.jpg: no such image"):
        read_image(f"{tmp_path}/b.jpg")
    for reader in ("read_frame", "image_size", "read_mask"):
        for name in ("a.jpg", "b.jpg", "a\0b.jpg"):
            with pytest.raises(UserError, match=r"[ab]\.jpg: "):
                READERS[reader](f"{tmp_path}/{name}")


def test_names_that_are_not_ascii_are_read_from_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV cannot open such names on Windows, where these tests do not run."""
    path = tmp_path / "straße_車.jpg"
    path.write_bytes(encode(".jpg", PICTURE, 1))
    monkeypatch.setattr(os, "name", "nt")
    opened = []
    monkeypatch.setattr(cv2, "imread", lambda *arguments: opened.append(arguments))
    image, size = read_frame(str(path), ThreadLocalBuffers())
    monkeypatch.undo()
    assert not opened
    np.testing.assert_array_equal(image, cv2.imread(str(path)))
    assert size == (90, 50)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_frame_differences_read_turned_images(tmp_path: Path) -> None:
    for number, orientation in enumerate((1, 6, 1)):
        (tmp_path / f"{number}.png").write_bytes(encode(".png", PICTURE, orientation))
    (tmp_path / "list.txt").write_text("/0.png\n/1.png\n/2.png\n")
    assert frame_differences(tmp_path, "list.txt", workers=1).tolist() == [255, 255, 255]  # another shape each time
