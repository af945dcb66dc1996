"""Videos are read as players show them; files that are no videos, or refer to other files, are refused."""

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm import UserError
from clrernetlm.core.sources import VIDEO_SUFFIXES
from clrernetlm.core.video import Video, video_writer
from clrernetlm.core.video_opening import MAX_PIXELS
from tests.helpers.small_videos import (
    SIZE,
    corner_marked,
    corners,
    replace_box,
    set_matrix,
    set_pixel_shape,
    write_clip,
)


def frames_of(path: Path) -> list[np.ndarray]:
    with Video(path) as video:
        return [image.copy() for image in video]


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        Video(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The matrix of an MP4 track, and the corners where white and red are then shown.
SHOWN = {
    "upright": ((1, 0, 0, 1), "W.R."),
    "quarter": ((0, 1, -1, 0), "RW.."),
    "half": ((-1, 0, 0, -1), ".R.W"),
    "three quarters": ((0, -1, 1, 0), "..WR"),
    "mirrored": ((-1, 0, 0, 1), ".W.R"),
    "upside down mirrored": ((1, 0, 0, -1), "R.W."),
    "transposed": ((0, 1, 1, 0), "WR.."),
    "transverse": ((0, -1, -1, 0), "..RW"),
}


@pytest.mark.parametrize("turn", SHOWN)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_frames_are_rotated_by_the_metadata_of_their_file(turn: str, suffix: str, tmp_path: Path) -> None:
    matrix, expected = SHOWN[turn]
    path = set_matrix(write_clip(tmp_path / f"phone{suffix}"), *matrix)
    with Video(path) as video:
        assert video.size == (SIZE if matrix[0] else SIZE[::-1])
        images = list(video)
        assert video.read == 5
    for image in images:
        assert (image.shape[1], image.shape[0]) == video.size
        assert corners(image) == expected


def test_rotations_of_track_and_movie_add_up(tmp_path: Path) -> None:
    path = set_matrix(write_clip(tmp_path / "phone.mp4"), 0, 1, -1, 0)
    assert corners(frames_of(set_matrix(path, 0, 1, -1, 0, b"mvhd"))[0]) == SHOWN["half"][1]


def test_rotations_between_quarter_turns_are_ignored(tmp_path: Path) -> None:
    path = set_matrix(write_clip(tmp_path / "phone.mp4"), 0.7, 0.7, -0.7, 0.7)
    assert corners(frames_of(path)[0]) == SHOWN["upright"][1]


@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square_are_stretched(turned: bool, tmp_path: Path) -> None:
    path = set_pixel_shape(write_clip(tmp_path / "wide.mp4"), 2, 1)
    if turned:
        set_matrix(path, 0, 1, -1, 0)
    with Video(path) as video:
        (width, height), image = SIZE, next(iter(video))
        assert video.size == ((height, 2 * width) if turned else (2 * width, height))
        assert corners(image) == SHOWN["quarter" if turned else "upright"][1]


def test_absurd_pixel_aspect_ratios_are_ignored(tmp_path: Path) -> None:
    with Video(set_pixel_shape(write_clip(tmp_path / "wide.mp4"), 5000, 1)) as video:
        assert video.size == SIZE


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES - {".gif", ".f4v", ".rm", ".dv", ".y4m"}))
def test_every_container_is_read(suffix: str, tmp_path: Path) -> None:
    images = frames_of(write_clip(tmp_path / f"clip{suffix}", size=(352, 288)))
    assert len(images) >= 5 - (suffix == ".vob")
    assert {corners(image) for image in images} == {"W.R."}


def test_animations_are_read(tmp_path: Path) -> None:
    from PIL import Image

    pictures = [Image.fromarray(np.ascontiguousarray(corner_marked(number)[..., ::-1])) for number in range(3)]
    pictures[0].save(tmp_path / "clip.gif", save_all=True, append_images=pictures[1:])
    assert [corners(image) for image in frames_of(tmp_path / "clip.gif")] == ["W.R."] * 3


# ---- files that refer to other files ---------------------------------------------------------------------------------


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and the paths that were requested."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def playlists(entry: str, port: int) -> dict[str, str]:
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{entry}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{entry}'\n",
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
        "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="1"><BaseURL>{entry}</BaseURL></Representation></AdaptationSet></Period></MPD>',
        "redirect": f"[Reference]\nRef1={entry}?MSWMExt=.asf\n",
        "windows": f"<ASX version='3.0'><ENTRY><REF HREF='{entry}'/></ENTRY></ASX>",
        "winamp": f"[playlist]\nFile1={entry}\nNumberOfEntries=1\n",
    }


@pytest.mark.parametrize("kind", playlists("", 0))
@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".m3u8"])
def test_playlists_fetch_nothing_and_read_no_other_file(
    kind: str, suffix: str, tmp_path: Path, requests: tuple[str, list[str]]
) -> None:
    address, asked = requests
    secret = write_clip(tmp_path / "secret.ts")
    path = tmp_path / f"clip{suffix}"
    for entry in (f"{address}/x.ts", str(secret), "secret.ts", f"file:{secret}", f"subfile,,start,0,end,0,,:{secret}"):
        for front in ("", "\ufeff", "\n"):
            path.write_text(front + playlists(entry, 9)[kind])
            assert refusal(path).startswith(f"{path}: a playlist, not a video; what it lists is not opened")
    assert asked == []


@pytest.mark.parametrize("kind", ["hls", "concat", "dash"])
def test_playlists_disguised_as_containers_read_no_other_file(kind: str, tmp_path: Path) -> None:
    text = playlists(str(write_clip(tmp_path / "secret.ts")), 9)[kind].encode()
    for front in (
        b"    ftypisom",
        b"\x1a\x45\xdf\xa3",
        b"OggS",
        b"FLV\x01",
        b"GIF89a",
        b"\x00\x00\x01\xba",
        b"    skip",
    ):
        (tmp_path / "clip.mp4").write_bytes(front + text)
        refusal(tmp_path / "clip.mp4")
        (tmp_path / "clip.mp4").write_bytes(text + front + b"G" * 2000)
        refusal(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    "name", ["concat:secret.ts|secret.ts", "subfile,,start,0,end,0,,:secret.ts", "data:text,#EXTM3U", "x%04d.mp4"]
)
def test_names_that_resemble_ffmpeg_addresses_are_file_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "secret.ts", frames=9)
    write_clip(tmp_path / "clip.mp4", frames=3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(frames_of(Path(name))) == 3


def test_a_video_named_like_an_image_sequence_is_a_video(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"x{number:04d}.jpg"), corner_marked(number))
    write_clip(tmp_path / "clip.mpg", size=(352, 288)).rename(tmp_path / "x%04d.jpg")
    assert frames_of(tmp_path / "x%04d.jpg")[0].shape == (288, 352, 3)


@pytest.mark.parametrize("reference", [b"url ", b"alis"])
def test_media_outside_the_file_is_not_read(reference: bytes, tmp_path: Path, requests: tuple[str, list[str]]) -> None:
    """A QuickTime file whose frames are in another file: FFmpeg follows such references only with an option."""
    address, asked = requests
    (tmp_path / "secret.mov").write_bytes(write_clip(tmp_path / "clip.mov").read_bytes())
    data = bytearray((tmp_path / "clip.mov").read_bytes())
    start = data.index(b"dref") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    where = (f"{address}/secret.mov" if reference == b"url " else str(tmp_path / "secret.mov")).encode() + b"\0"
    entry = struct.pack(">I4sI", 12 + len(where), reference, 0) + where
    box = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    replace_box(data, start, size, box, (b"moov", b"trak", b"mdia", b"minf", b"dinf"))
    media = data.index(b"mdat")
    length = int.from_bytes(data[media - 4 : media], "big") - 8
    data[media + 4 : media + 4 + length] = bytes(length)  # a result now would come from the other file
    (tmp_path / "clip.mov").write_bytes(data)
    try:
        images = frames_of(tmp_path / "clip.mov")
    except UserError:
        images = []
    assert all("W" not in corners(image) for image in images)
    assert asked == []


# ---- names and sizes ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="names are UTF-16 there")
def test_names_that_are_not_utf8_are_read_and_written(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"Stra\xdfe")
    folder.mkdir()
    path = folder / os.fsdecode(b"\xff\xfe.mp4")
    with video_writer(path, SIZE, 25) as append:
        append(corner_marked())
    assert [corners(image) for image in frames_of(path)] == ["W.R."]
    assert [file.name for file in folder.iterdir()] == [path.name]
    with pytest.raises(UserError, match="cannot be read"):
        Video(folder / os.fsdecode(b"absent\xff.mp4"))


@pytest.mark.parametrize("name", ["ä ö.mp4", "車載.mp4", "a\nb.mp4", "[red].mp4", "-x.mp4", "a'b\".mp4", "a#b?c.mp4"])
def test_unusual_names_are_read(name: str, tmp_path: Path) -> None:
    assert len(frames_of(write_clip(tmp_path / "clip.mp4").rename(tmp_path / name))) == 5


def gif(width: int, height: int) -> bytes:
    """Return a GIF of the given screen size whose only frame is one pixel."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + screen + b",\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\0;"


def test_absurd_sizes_are_refused_before_a_frame_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    class Watched:
        """Replaces a capture and records which frames are decoded."""

        def __init__(self, *arguments: object) -> None:
            self.capture = capture(*arguments)

        def __getattr__(self, name: str) -> object:
            decoded.extend([name] if name in ("read", "grab", "retrieve") else [])
            return getattr(self.capture, name)

    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Watched)
    path = tmp_path / "clip.gif"
    path.write_bytes(gif(16000, 16000))  # whose frame takes 2.5 GB
    assert "frames of 16000x16000; at most 40 million pixels" in refusal(path)
    assert not decoded
    path.write_bytes(gif(65535, 65535))
    refusal(path)
    decoded.clear()
    assert frames_of(write_clip(tmp_path / "clip.mp4"))
    assert decoded
    assert MAX_PIXELS > 7680 * 4320


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"ftyp", b"RIFF\0\0\0\0WAVE", b"G" * 400 + b"x" * 9000, b"PK\3\4" * 99]
)
def test_a_file_that_is_no_video_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert refusal(path) == f"{path}: not a video, or cut short; no frame can be read"


def test_an_image_given_as_video_is_called_an_image(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".bmp", ".tif"):
        path = tmp_path / "clip.mp4"
        path.write_bytes(cv2.imencode(suffix, corner_marked())[1].tobytes())
        assert refusal(path) == f"{path}: an image, not a video; give the file an image's suffix, such as .jpg"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_pipes_folders_and_missing_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("pipe.mp4", "folder.mp4", "absent.mp4"):
        assert refusal(tmp_path / name) == f"{tmp_path / name}: cannot be read (not a file); check the path"


def test_damaged_headers_do_not_hang_or_crash(tmp_path: Path) -> None:
    whole = set_matrix(write_clip(tmp_path / "whole.mp4"), 0, 1, -1, 0).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "clip.mp4"
    for _ in range(60):
        data = bytearray(whole)
        for place in random.integers(len(whole) - 900 if random.random() < 0.8 else 0, len(whole), 4):
            data[place] = random.integers(256)
        path.write_bytes(data[: len(whole) - int(random.integers(0, 3)) * 100])
        with suppress(UserError):
            assert all(image.ndim == 3 for image in frames_of(path))


def test_opening_videos_in_threads_restores_ffmpeg_settings(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    before, level = dict(os.environ), cv2.getLogLevel()
    errors: list[BaseException] = []

    def open_often() -> None:
        try:
            for _ in range(8):
                with Video(path) as video:
                    assert sum(1 for _ in video) == video.read
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert dict(os.environ) == before
    assert cv2.getLogLevel() == level
