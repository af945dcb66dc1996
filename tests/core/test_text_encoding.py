"""Text files of any Unicode encoding are read; pipes and devices do not block the reader."""

import os
from pathlib import Path

import pytest

from clrernetlm.core.fast_lane_reader import read_lane_points
from clrernetlm.core.text_encoding import read_utf8


def test_pipes_and_devices_do_not_block(tmp_path: Path) -> None:
    pipe = tmp_path / "list.txt"
    os.mkfifo(pipe)
    assert read_utf8(pipe, 1000) == b""  # no process writes to it
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(pipe, os.O_WRONLY)
    os.write(writer, b"/a.jpg\n")
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"/a.jpg\n"
    with pytest.raises(OSError, match="a device"):
        read_utf8("/dev/zero", 1000)
    assert read_lane_points(pipe)[0].shape == (0, 2)
