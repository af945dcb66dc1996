"""The size of an image, read from its header where possible."""

import io
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm.core.errors import UserError
from clrernetlm.core.image_headers import HEADER_BYTES, image_size, is_whole_jpeg, read_header
from clrernetlm.core.images import ThreadLocalBuffers, read_frame, read_image

# An APP1 segment with one EXIF entry, orientation 6: the camera was held upright.
UPRIGHT = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_the_header_gives_the_size_of_the_decoded_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.zeros((45, 80, 3), np.uint8))
    assert image_size(path) == (80, 45)


def test_jpeg_and_png_are_not_decoded_for_their_size(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png"):
        path = tmp_path / f"a{suffix}"
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8))
        path.write_bytes(path.read_bytes()[:700])
        assert image_size(path) == (500, 300)


def test_exif_rotation_swaps_width_and_height(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.zeros((45, 80, 3), np.uint8))
    plain = path.read_bytes()
    path.write_bytes(plain[:2] + UPRIGHT + plain[2:])
    assert cv2.imread(str(path)).shape == (80, 45, 3)
    assert image_size(path) == (45, 80)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(UserError, match=name):
            image_size(tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_a_name_that_is_not_utf8_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xe4.bmp")
    path.write_bytes(cv2.imencode(".bmp", np.zeros((45, 80, 3), np.uint8))[1].tobytes())
    for read in (
        image_size,
        lambda name: read_image(str(name), 1),
        lambda name: read_frame(str(name), ThreadLocalBuffers()),
    ):
        with pytest.raises(UserError, match="this name is not UTF-8"):
            read(path)


class CountingFile(io.BytesIO):
    """A file in memory that counts its reads."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


def test_a_jpeg_of_endless_segments_is_given_up_after_few_reads() -> None:
    comment = b"\xff\xfe\0\x02"
    jpeg = cv2.imencode(".jpg", np.zeros((45, 80, 3), np.uint8))[1].tobytes()

    def with_comments(number: int) -> bytes:
        return jpeg[:2] + comment * number + jpeg[2:]

    header = read_header(with_comments(2000)[:HEADER_BYTES], io.BytesIO(with_comments(2000)))
    assert header is not None
    assert header.size == (80, 45)
    assert is_whole_jpeg(with_comments(2000))

    endless = with_comments(200_000)
    file = CountingFile(endless)
    assert read_header(endless[:HEADER_BYTES], file) is None
    assert file.reads <= 10_000
    assert not is_whole_jpeg(endless)
