"""Streams from a server on this machine: recorded, live, and lost ones."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm import UserError
from clrernetlm.core import live_stream
from clrernetlm.core.live_stream import LatestFrameReader
from clrernetlm.core.sources import Stream
from clrernetlm.core.video import Video
from tests.helpers.small_videos import corners, write_clip


@pytest.fixture
def served() -> Iterator[Callable[[dict[str, bytes]], str]]:
    """Serve bytes under names, with HTTP ranges; yields the server's address."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def serve(files: dict[str, bytes]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = files.get(self.path.partition("?")[0])
                if content is None:
                    self.send_error(404)
                    return
                start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
                recorded = not self.path.startswith("/live")
                self.send_response(206 if recorded else 200)
                if recorded:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                    self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start if recorded else 0 :])

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # readers leave when they have enough
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_recording_at_an_address_is_read_like_a_file(served: Callable[..., str], tmp_path: Path) -> None:
    address = served({"/clip.mp4": write_clip(tmp_path / "clip.mp4", frames=7).read_bytes()})
    with Video(Stream(f"{address}/clip.mp4?key=secret")) as video:
        assert (video.live, video.count) == (False, 7)
        assert [corners(image) for image in video] == ["W.R."] * 7
        assert video.seconds == pytest.approx(6 / 25)
        assert not video.cut_short


def test_a_stream_without_a_length_is_read_to_its_end(served: Callable[..., str], tmp_path: Path) -> None:
    address = served({"/live": write_clip(tmp_path / "clip.ts", frames=30, size=(352, 288)).read_bytes()})
    with Video(Stream(f"{address}/live")) as video:
        assert (video.live, video.count) == (True, None)
        assert sum(1 for _ in video) == 30


def test_a_playlist_at_an_address_is_followed(served: Callable[..., str], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.ts", frames=10, size=(352, 288)).read_bytes()
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\na.ts\n#EXT-X-ENDLIST\n"
    address = served({"/x.m3u8": playlist, "/a.ts": clip})
    with Video(Stream(f"{address}/x.m3u8")) as video:
        assert sum(1 for _ in video) == 10


def test_a_playlist_at_an_address_reads_no_file_of_this_machine(served: Callable[..., str], tmp_path: Path) -> None:
    secret = write_clip(tmp_path / "secret.ts", frames=10, size=(352, 288))
    for entry in (str(secret), f"file:{secret}", f"file://{secret}"):
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\n{entry}\n#EXT-X-ENDLIST\n".encode()
        with pytest.raises(UserError, match="no pictures come from there"):
            Video(Stream(served({"/x.m3u8": playlist}) + "/x.m3u8"))


def test_unreachable_addresses_are_one_line_without_their_password() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for scheme in ("http", "rtsp", "rtmp", "tcp", "https"):
        with pytest.raises(UserError) as caught:
            Video(Stream(f"{scheme}://me:secret@127.0.0.1:{port}/x?key=secret"))
        address = f"{scheme}://127.0.0.1:{port}/x"
        assert str(caught.value) == f"{address}: no pictures come from there; check the address, and that it answers"
    with pytest.raises(UserError, match="/dev/video63: no pictures come from there; check that it is connected"):
        Video(Stream("/dev/video63"))


class Camera:
    """Replaces an opened cv2.VideoCapture: `frames` numbered frames, one every `seconds`."""

    def __init__(self, first: int, frames: int, seconds: float) -> None:
        self.next, self.end, self.seconds, self.released = first, first + frames, seconds, False
        self.may_end = threading.Event()
        self.may_end.set()

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(self.seconds)
        if self.next == self.end:
            self.may_end.wait(60)
        self.next += 1
        return (True, np.full((4, 4, 3), self.next - 1, np.uint8)) if self.next <= self.end else (False, None)

    def release(self) -> None:
        self.released = True


def numbers(stream: LatestFrameReader, pause: float) -> list[int]:
    found = []
    while True:
        there, frame = stream.read()
        if not there:
            return found
        found.append(int(frame[0, 0, 0]))
        time.sleep(pause)


def test_a_slow_reader_gets_the_newest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stream, "RECONNECT_DELAYS", ())
    camera = Camera(0, 40, 0.001)
    stream = LatestFrameReader(Stream("rtsp://x"), camera)  # type: ignore[arg-type]
    there, frame = stream.read()
    assert there
    first = int(frame[0, 0, 0])
    while camera.next <= camera.end:  # the reader is slower than the camera
        time.sleep(0.001)
    rest = numbers(stream, pause=0)
    assert [first, *rest] in ([first, 39], [39])


def test_a_lost_stream_is_reopened_and_ends_if_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [None, Camera(101, 5, 0.001), None, None]
    tries: list[float] = []

    def answer(source: Stream) -> tuple[None, Camera, np.ndarray]:
        tries.append(time.monotonic())
        camera = answers.pop(0)
        if camera is None:
            raise UserError("silent")
        return None, camera, np.full((4, 4, 3), 100, np.uint8)

    monkeypatch.setattr(live_stream, "open_video", answer)
    monkeypatch.setattr(live_stream, "RECONNECT_DELAYS", (0.01, 0.02))
    first = Camera(0, 5, 0.001)
    first.may_end.clear()
    stream = LatestFrameReader(Stream("rtsp://x"), first)  # type: ignore[arg-type]
    there, frame = stream.read()
    assert there
    assert frame[0, 0, 0] < 5
    first.may_end.set()
    assert numbers(stream, pause=0)[-1] == 105
    assert (len(tries), first.released, answers) == (4, True, [])


def test_a_released_stream_stops_reading() -> None:
    camera = Camera(0, 10**6, 0.001)
    stream = LatestFrameReader(Stream("rtsp://x"), camera)  # type: ignore[arg-type]
    assert stream.read()[0]
    stream.release()
    assert camera.released
    while stream.read()[0]:
        pass


def test_a_live_stream_over_the_network_is_read_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stream, "RECONNECT_DELAYS", ())
    monkeypatch.setattr("clrernetlm.core.video_opening.TIMEOUTS", [cv2.CAP_PROP_READ_TIMEOUT_MSEC, 2000])
    content = write_clip(tmp_path / "clip.ts", frames=60, size=(352, 288)).read_bytes()
    stop = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port_finder:
        port_finder.bind(("127.0.0.1", 0))
        port = port_finder.getsockname()[1]

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not stop.is_set():
                for start in range(0, len(content), 188 * 7):
                    sender.sendto(content[start : start + 188 * 7], ("127.0.0.1", port))
                    time.sleep(0.0005)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with Video(Stream(f"udp://127.0.0.1:{port}")) as video:
            assert (video.live, video.size) == (True, (352, 288))
            for image in video:
                assert image.shape == (288, 352, 3)
                if video.read == 5:
                    stop.set()
    finally:
        stop.set()
        thread.join()
    assert video.read >= 5
