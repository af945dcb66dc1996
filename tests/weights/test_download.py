"""Downloads from a server on this machine that misbehaves on request."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clrernetlm import UserError
from clrernetlm.cli import main
from clrernetlm.core.files import cache_folder
from clrernetlm.weights.download import download
from clrernetlm.weights.registry import REMOTE, RemoteModel

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CUT = 300_000


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; /cut ends early unless a range is requested, /whole ignores ranges."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.ranges.append(self.headers.get("Range"))
        if self.path == "/absent.pth":
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range") and self.path != "/whole.pth":
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = CUT if self.path == "/cut.pth" and not start else len(CONTENT)
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.pth"


def refusal(*arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        download(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("expected", [SHA256, None])
def test_a_file_is_downloaded_completely(expected: str | None, server: Server, target: Path) -> None:
    assert download(server.url("model.pth"), target, expected) == SHA256
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_a_wrong_hash_leaves_nothing_and_keeps_the_old_file(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    assert f"SHA-256 {SHA256} instead of {'0' * 64}; not kept" in refusal(server.url("model.pth"), target, "0" * 64)
    assert list(target.parent.iterdir()) == [target]
    assert target.read_bytes() == b"old"


def test_an_interrupted_download_continues(server: Server, target: Path) -> None:
    message = refusal(server.url("cut.pth"), target, SHA256)
    assert message.endswith(
        f"cut short after {CUT} of {len(CONTENT)} bytes; run the command again to continue from there"
    )
    assert not target.exists()
    assert download(server.url("cut.pth"), target, SHA256) == SHA256
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={CUT - 1}-"]


@pytest.mark.parametrize("have", [1, 1000, len(CONTENT)])
@pytest.mark.parametrize("name", ["model.pth", "whole.pth"])
def test_any_partial_download_is_completed_with_and_without_ranges(
    have: int, name: str, server: Server, target: Path
) -> None:
    target.parent.mkdir()
    target.with_name("model.pth.part").write_bytes(CONTENT[:have])
    assert download(server.url(name), target, SHA256) == SHA256
    assert list(target.parent.iterdir()) == [target]


def test_a_partial_file_longer_than_the_file_is_discarded(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("model.pth.part").write_bytes(CONTENT + b"more")
    assert "run the command again" in refusal(server.url("model.pth"), target)
    assert download(server.url("model.pth"), target) == SHA256


def test_download_errors_are_one_line(server: Server, target: Path, tmp_path: Path) -> None:
    assert "the server answers 404" in refusal(server.url("absent.pth"), target)
    server.shutdown()
    server.server_close()
    message = refusal(server.url("model.pth"), target)
    assert "cannot be downloaded (" in message
    assert f"put the file at {target} by hand" in message
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be written" in refusal(server.url("model.pth"), tmp_path / "file" / "model.pth")


@pytest.fixture
def released(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RemoteModel:
    monkeypatch.setenv("CLRERNETLM_CACHE", str(tmp_path / "cache"))
    entry = RemoteModel("clrernet_culane_dla34", server.url("model.pth"), "a test")
    monkeypatch.setitem(REMOTE, entry.name, entry)
    return entry


def test_models_get_downloads_once_and_prints_the_unverified_hash(
    released: RemoteModel, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "get", released.name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{cache_folder() / 'model.pth'}\nsha256 {SHA256} (unverified: ")
    assert main(["models", "get", f"{released.name}.pth"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert len(server.ranges) == 1
    assert main(["models"]) == 0
    assert "yes, unverified" in capsys.readouterr().out


def test_models_get_downloads_to_a_folder(
    released: RemoteModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "get", released.name, "--to", str(tmp_path / "here")]) == 0
    assert (tmp_path / "here" / "model.pth").read_bytes() == CONTENT
    assert not released.path.exists()
