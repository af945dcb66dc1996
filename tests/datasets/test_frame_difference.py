"""Frame differences: each to the previous frame, exact, and equal for any number of processes."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm.core.errors import UserError
from clrernetlm.datasets import frame_difference
from clrernetlm.datasets.frame_difference import frame_differences, load_differences

ROOT = Path(__file__).parents[2]


def write_clips(root: Path) -> None:
    """Write uniform PNG frames, so that differences are exact; the list is not in order."""
    for clip, levels in {"a": [10, 30, 25], "b": [200]}.items():
        (root / clip).mkdir()
        for number, level in enumerate(levels, start=9):  # 9, 10, 11: names of different length
            cv2.imwrite(str(root / clip / f"{number}.png"), np.full((20, 30, 3), level, np.uint8))
    (root / "list").mkdir()
    (root / "list/train_gt.txt").write_text("/a/11.png\n/b/9.png\n/a/9.png\n/a/10.png\n")


@pytest.mark.parametrize(("workers", "run"), [(1, 64), (2, 64), (2, 1), (1, 2)])
def test_difference_to_the_frame_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, run: int
) -> None:
    monkeypatch.setattr(frame_difference, "_FRAMES_PER_TASK", run)
    write_clips(tmp_path)
    seen: list[tuple[int, int]] = []
    differences = frame_differences(
        tmp_path, "list/train_gt.txt", workers=workers, progress=lambda *done: seen.append(done)
    )
    assert differences.tolist() == [5, 255, 255, 20]
    assert seen[-1] == (4, 4)


def test_frames_of_another_size_are_kept(tmp_path: Path) -> None:
    write_clips(tmp_path)
    cv2.imwrite(str(tmp_path / "a/10.png"), np.zeros((10, 10, 3), np.uint8))
    assert frame_differences(tmp_path, "list/train_gt.txt", workers=1).tolist() == [255, 255, 255, 255]


def test_the_tool_writes_what_the_data_set_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("calculate_frame_diff", ROOT / "tools/calculate_frame_diff.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    write_clips(tmp_path)
    assert tool.main([str(tmp_path), "--workers", "1"]) == 0
    assert "4 images, 1 differ by less than 15" in capsys.readouterr().out
    loaded = load_differences(tmp_path / "list/train_diffs.npz", expected=4, list_file="list/train_gt.txt")
    assert loaded.tolist() == [5, 255, 255, 20]
    assert tool.main([str(tmp_path)]) == 2
    assert "train_diffs.npz: frame differences of this tool of an earlier run" in capsys.readouterr().err
    assert tool.main([str(tmp_path), "--out", "list/train_gt.txt", "--overwrite"]) == 2
    assert "train_gt.txt: this run reads that file" in capsys.readouterr().err
    assert tool.main([str(tmp_path), "--out", "a/10.png", "--overwrite"]) == 2
    assert "10.png: would be overwritten, and is not frame differences" in capsys.readouterr().err
    (tmp_path / "a/10.png").unlink()
    assert tool.main([str(tmp_path), "--overwrite"]) == 2
    assert "10.png: no such image" in capsys.readouterr().err


def write_npz(path: Path, head: bytes, numbers: bytes = b"", member: str = "data.npy") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(member, head + numbers)
    return path


def npy_head(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": kind, "fortran_order": False, "shape": shape})
    return head.getvalue()


@pytest.mark.parametrize(
    "kind", ["stated", "unfolded", "unnamed", "crowded", "broken", "pickled", "encrypted", "text", "method"]
)
def test_files_with_wrong_sizes_in_their_header_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "train_diffs.npz"
    if kind == "stated":
        write_npz(path, npy_head((10**14,)))  # 728 TiB
    elif kind == "unfolded":
        write_npz(path, npy_head((1 << 22,)), bytes(8 << 22))  # 33 kB hold 33 MB
    elif kind == "unnamed":
        write_npz(path, npy_head((1 << 22,)), bytes(8 << 22), member="data")  # which NumPy reads as data.npy
    elif kind == "crowded":
        np.savez(path, data=np.zeros(4), other=np.zeros(2 << 20, np.uint8))
    elif kind == "pickled":
        np.savez(path, data=np.array([print], object))
    elif kind == "text":
        write_npz(path, npy_head((4,), "<U1000000000"))
    else:
        content = bytearray(write_npz(path, npy_head((4,)), np.random.default_rng(0).bytes(32)).read_bytes())
        entry = content.index(b"PK\x01\x02")
        if kind == "broken":
            content[len("PK..") + 26 + len("data.npy") + 20] ^= 255
        for at in (6, entry + 8) if kind == "encrypted" else ():
            content[at] |= 1
        for at in (8, entry + 10) if kind == "method" else ():
            content[at] = 99
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"train_diffs\.npz: .*make it with") as caught:
        load_differences(path, expected=4, list_file="list.txt")
    assert "\n" not in str(caught.value)
