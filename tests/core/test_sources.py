"""Inputs of a command: which files they name, and the names of their results."""

import os
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm import UserError
from clrernetlm.core.sources import Stream, find_inputs, is_input, result_names, source_file_name
from tests.helpers.small_videos import write_clip
from tests.helpers.timing import cpu_time_ratio


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def names_of(words: list[Path | str], results: Path | None = None) -> list[str]:
    found = find_inputs([str(word) for word in words], results)
    return result_names(found.images, found.relative_paths)


def refusal(*words: object) -> str:
    with pytest.raises(UserError) as caught:
        find_inputs([str(word) for word in words])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nested_folders_are_searched_and_results_keep_their_structure(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.jpg", "day/a.jpg", "day/b.jpg", "day/late/a.PNG", "night/a.jpg", "night/clip.ts", "night/note.txt"
    )
    found = find_inputs([str(tmp_path)])
    assert [path.relative_to(tmp_path).as_posix() for path in found.images] == [
        "b.jpg", "day/a.jpg", "day/b.jpg", "day/late/a.PNG", "night/a.jpg",
    ]  # fmt: skip
    assert found.videos == [tmp_path / "night/clip.ts"]
    assert result_names(found.images, found.relative_paths) == ["b", "day/a", "day/b", "day/late/a", "night/a"]
    assert result_names(found.videos, found.relative_paths) == ["night/clip"]  # type: ignore[arg-type]


def test_repeated_names_get_their_folder_as_prefix(tmp_path: Path) -> None:
    touch(tmp_path, "a/sub/x.jpg", "b/sub/x.jpg", "b/y.jpg")
    assert names_of([tmp_path / "a", tmp_path / "b"]) == ["a-sub/x", "y", "b-sub/x"]
    assert names_of([tmp_path / "a/sub/x.jpg", tmp_path / "b/y.jpg"]) == ["x", "y"]
    touch(tmp_path, "b/sub/x.png")
    with pytest.raises(UserError, match="would overwrite"):
        names_of([tmp_path / "b"])


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "x.jpg", "._x.jpg", ".x.png", ".hidden/y.jpg", "__MACOSX/._z.jpg", "sub/._clip.mp4")
    assert names_of([tmp_path]) == ["x"]
    assert names_of([tmp_path / "._x.jpg"]) == ["._x"]  # named explicitly
    assert "no image or video in this folder" in refusal(tmp_path / "__MACOSX")


def test_results_are_not_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "x.jpg", "old/x.jpg", "old/lanes.json", "old/sub/y.jpg", "seen/clip.mp4", "seen/clip.lanes.json")
    touch(tmp_path, "new/x.jpg", "new/deep/y.jpg")
    assert names_of([tmp_path], tmp_path / "new") == ["x"]
    assert names_of([tmp_path / "**/*.jpg"], tmp_path / "new") == ["x"]
    assert names_of([tmp_path]) == ["x", "new/x", "new/deep/y"]
    assert names_of([tmp_path / "old"]) == ["x", "sub/y"]  # named explicitly


def test_lane_attribute_files_are_no_results(tmp_path: Path) -> None:
    touch(tmp_path, "data/0.jpg", "data/0.lines.txt", "data/0.lanes.json", "seen/clip.mp4", "seen/clip.lanes.json")
    assert names_of([tmp_path]) == ["data/0"]


def test_label_masks_are_skipped_unless_named(tmp_path: Path) -> None:
    touch(tmp_path, "driver_1/0.jpg", "laneseg_label_w16/driver_1/0.png", "sub/SEG_LABEL/1.png", "lanes/laneseg.png")
    for word in (tmp_path, tmp_path / "**/*.*g", tmp_path / "*"):
        with pytest.warns(UserWarning, match="label masks by its name, left out; name the folder") as said:
            assert names_of([word]) == ["driver_1/0", "lanes/laneseg"]
        assert len(said) >= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for word in ("laneseg_label_w16", "laneseg*", "laneseg*/**/*.png"):
            assert [name.rpartition("/")[2] for name in names_of([tmp_path / word])] == ["0"]
        assert names_of([tmp_path / "laneseg_label_w16/driver_1"]) == ["0"]


def test_names_that_differ_only_in_case_get_different_results(tmp_path: Path) -> None:
    images = [tmp_path / name for name in ("a/X.jpg", "b/x.jpg", "b/x-2.jpg", "c/ß.jpg", "d/SS.jpg", "e/y.jpg")]
    assert result_names(images) == ["X", "x-3", "x-2", "ß", "SS-2", "y"]
    below = {path: path.relative_to(tmp_path) for path in (tmp_path / "day/x.jpg", tmp_path / "Day/x.jpg")}
    assert result_names(list(below), below) == ["day/x", "Day/x-2"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_followed_once_and_broken_ones_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "disk/a.jpg", "photos/b.jpg")
    (tmp_path / "photos/disk").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/back").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert names_of([tmp_path / "photos"]) == ["b", "lost", "disk/a"]


def test_glob_patterns_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "p/a.jpg", "p/b.jpg", "p/c.txt", "p/sub/d.jpg", "p/sub/e.mp4", "p/.f.jpg", "[1].jpg", "1.jpg")
    monkeypatch.chdir(tmp_path)
    assert names_of(["p/*.jpg"]) == ["a", "b"]
    assert names_of(["p/**/*.jpg"]) == ["a", "b", "sub/d"]
    assert names_of(["p/**"]) == ["a", "b", "sub/d"]
    assert names_of(["p/*"]) == ["a", "b", "sub/d"]
    assert names_of(["p/[ab].jpg", "p/?.jpg"]) == ["a", "b"]
    assert names_of([tmp_path / "p/*/d.jpg"]) == ["sub/d"]
    assert names_of(["*/sub/*"]) == ["p/sub/d"]
    assert names_of(["[1].jpg"]) == ["[1]"]  # a file of that name
    assert find_inputs(["p/sub/*"]).videos == [Path("p/sub/e.mp4")]
    assert refusal("p/*.png") == "p/*.png: no image or video matches this pattern; check it"
    assert "no image or video matches" in refusal("q/**/*")
    assert is_input("photos/*")


def test_files_are_classified_by_content(tmp_path: Path) -> None:
    image = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    clip = write_clip(tmp_path / "real.ts").read_bytes()
    contents = {"a.mp4": image, "b.jpg": clip, "c.dat": clip, "d.dat": image, "e.mp4": b"", "f.jpg": b"", "g": b"x"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    found = find_inputs([str(tmp_path / name) for name in contents])
    assert [path.name for path in found.images] == ["a.mp4", "d.dat", "f.jpg", "g"]
    assert [path.name for path in found.videos if isinstance(path, Path)] == ["b.jpg", "c.dat", "e.mp4"]
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    assert find_inputs([str(tmp_path / "photo.heic")]).videos == []


ADDRESSES = {
    "rtsp://camera.local/stream1": "camera.local-stream1",
    "rtsp://admin:secret@10.0.0.5:554/live/main?token=secret": "10.0.0.5-554-live-main",
    "http://host/roads/clip.mp4": "host-roads-clip",
    "HTTPS://host/live.m3u8": "host-live",
    "udp://239.0.0.1:1234": "239.0.0.1-1234",
    "/dev/video0": "video0",
    "/dev/v4l/by-id/usb-Cam-0": "usb-Cam-0",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_streams_with_safe_result_names(address: str) -> None:
    found = find_inputs([address, address])
    assert found.videos == [Stream(address)]
    assert is_input(address)
    assert result_names([source_file_name(found.videos[0])]) == [ADDRESSES[address]]
    assert "secret" not in f"{found.videos[0]} {found.videos[0]!r}"
    assert found.videos[0].is_device == address.startswith("/dev")  # type: ignore[union-attr]


def test_camera_results_have_their_own_names() -> None:
    found = find_inputs(["0", "rtsp://a/1", "rtsp://a/2"])
    assert result_names([source_file_name(video) for video in found.videos]) == ["camera0", "a-1", "a-2"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("ftp://host/clip.mp4", "no such file or folder; addresses begin with rtmp"),
        ("rtsp://[::1", "not an address"),
        ("", "an empty name"),
        ("absent.jpg", "absent.jpg: no such file or folder"),
        ("x" * 5000, "no such file or folder"),
        ("concat:a.ts|b.ts", "no such file or folder"),
        ("img_%04d.jpg", "no such file or folder"),
        ("a\0b.jpg", "no such file or folder"),
    ],
)
def test_an_unknown_input_is_a_one_line_error(word: str, said: str) -> None:
    assert said in refusal(word)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_pipes_are_refused_at_once(tmp_path: Path) -> None:
    for name in ("pipe.jpg", "pipe.mp4"):
        os.mkfifo(tmp_path / name)
        assert "a pipe or device, not a file" in refusal(tmp_path / name)
    touch(tmp_path, "x.jpg")
    found = find_inputs([str(tmp_path)])
    assert (found.images, found.videos) == ([tmp_path / "x.jpg"], [])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may list everything")
def test_folders_that_cannot_be_listed_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "x.jpg", "closed/y.jpg")
    (tmp_path / "closed").chmod(0)
    with pytest.warns(UserWarning, match="closed: cannot be listed"):
        assert names_of([tmp_path]) == ["x"]
    assert "closed: cannot be listed" in refusal(tmp_path / "closed")


def test_large_folders_are_searched_fast(tmp_path: Path) -> None:
    """4,000 files are enough to notice quadratic time, which is a thousand times as long."""
    for number in range(4_000):
        os.close(os.open(tmp_path / f"{number:05d}.jpg", os.O_CREAT))

    def look_at_each() -> list[os.stat_result]:
        return [os.stat(tmp_path / name) for name in sorted(os.listdir(tmp_path))]

    for word in (tmp_path, tmp_path / "*.jpg"):
        assert len(names_of([word])) == 4_000
        assert cpu_time_ratio(lambda word=word: names_of([word]), look_at_each) < 100  # type: ignore[misc]
