"""A run may replace only its own unchanged results."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from clrernetlm.core.errors import UserError
from clrernetlm.core.overwrite_rules import (
    RESULTS_LOG,
    ReadFiles,
    ResultFolder,
    begins_with,
    check_distinct,
    check_output,
)


def test_an_input_file_is_recognised_under_any_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = tmp_path / "data" / "A.lines.txt"
    label.parent.mkdir()
    label.touch()
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "file").symlink_to(label)
    reads = ReadFiles([label])
    monkeypatch.chdir(tmp_path)
    for spelling in ("data/A.lines.txt", "link/A.lines.txt", "link/../data/./A.lines.txt", "data/a.LINES.txt"):
        assert spelling in reads
    for other in ("A.lines.txt", "file", "data/B.lines.txt", "link/x/A.lines.txt"):
        assert other not in reads
    # Both a link and its target count as read.
    assert "data/A.lines.txt" in ReadFiles(["file"])
    assert "file" in ReadFiles(["file"])


def test_a_missing_input_file_is_recognised_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "data").mkdir()
    assert tmp_path / "link/new.lines.txt" in ReadFiles([tmp_path / "data/new.lines.txt"])
    assert tmp_path / "none/../none/x" in ReadFiles([tmp_path / "none/x"])


def test_the_same_source_again_replaces_its_results(tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        ResultFolder(tmp_path).write_bytes("a/x.lines.txt", content, "model and list")
        with ResultFolder(tmp_path).replacing("all.jsonl", "model and list") as temporary:
            temporary.write_bytes(content)
    assert (tmp_path / "a/x.lines.txt").read_bytes() == (tmp_path / "all.jsonl").read_bytes() == b"2"


@pytest.mark.parametrize("source", ["another", ""])
def test_other_results_need_overwrite(tmp_path: Path, source: str) -> None:
    ResultFolder(tmp_path).write_bytes("x", b"1", source)
    with pytest.raises(UserError, match="`overwrite=True`"):
        ResultFolder(tmp_path).check("x", "" if source == "" else "source")
    ResultFolder(tmp_path, overwrite=True).write_bytes("x", b"2", "source")
    assert (tmp_path / "x").read_bytes() == b"2"


def test_other_files_are_never_replaced(tmp_path: Path) -> None:
    label = tmp_path / "label.lines.txt"
    label.write_text("1 2 3 4\n")
    ResultFolder(tmp_path).write_bytes("changed", b"1", "source")
    (tmp_path / "changed").write_text("corrected by hand")
    ResultFolder(tmp_path).write_bytes("hard", b"1 2 3 4\n", "source")
    (tmp_path / "hard").unlink()
    os.link(label, tmp_path / "hard")
    label.write_text("5 6 7 8\n")
    (tmp_path / "soft").symlink_to(label)
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "folder").mkdir()
    for name in ("label.lines.txt", "changed", "hard", "soft", "dangling", "folder"):
        results = ResultFolder(tmp_path, overwrite=True)
        with pytest.raises(UserError, match=rf"{name}: would be overwritten, and is not an unchanged result"):
            results.write_bytes(name, b"2", "source")
        with pytest.raises(UserError, match="would be overwritten"), results.replacing(name, "source"):
            pass
    assert label.read_text() == "5 6 7 8\n"


def test_a_result_that_is_also_an_input_is_not_replaced(tmp_path: Path) -> None:
    ResultFolder(tmp_path).write_bytes("photo.jpg", b"1", "source")
    results = ResultFolder(tmp_path, overwrite=True, reads=ReadFiles([tmp_path / "photo.jpg"]))
    with pytest.raises(UserError, match=r"photo.jpg: this run reads that file"):
        results.check("photo.jpg", "source")


def test_results_of_a_killed_run_are_recognised(tmp_path: Path) -> None:
    ResultFolder(tmp_path).write_bytes("x", b"1", "source")
    log = tmp_path / RESULTS_LOG
    killed_before_renaming = log.read_text() + log.read_text().replace('"x"', '"y"') + '{"file": "z", "sha'
    log.write_text(killed_before_renaming)
    results = ResultFolder(tmp_path)
    for name in ("x", "y", "z"):
        results.write_bytes(name, b"2", "source")
    ResultFolder(tmp_path).check("y", "source")


def test_an_error_keeps_the_old_result(tmp_path: Path) -> None:
    ResultFolder(tmp_path).write_bytes("x", b"1", "source")
    with suppress(ValueError), ResultFolder(tmp_path).replacing("x", "source") as temporary:
        temporary.write_bytes(b"2")
        raise ValueError
    assert (tmp_path / "x").read_bytes() == b"1"
    assert sorted(path.name for path in tmp_path.iterdir()) == [RESULTS_LOG, "x"]


def test_single_outputs_are_recognised_by_their_content(tmp_path: Path) -> None:
    path, is_own = tmp_path / "scores.json", begins_with('{"thresholds": [')

    def check(overwrite: bool, reads: ReadFiles | None = None) -> None:
        check_output(path, "scores", is_own, parameter="json", overwrite=overwrite, reads=reads)

    check(overwrite=False)  # nothing there
    path.write_text('{\n "thresholds": [0.5]}')
    check(overwrite=True)
    with pytest.raises(UserError, match=r"scores.json: scores of an earlier run.*`overwrite=True`"):
        check(overwrite=False)
    with pytest.raises(UserError, match="this run reads that file"):
        check(overwrite=True, reads=ReadFiles([path]))
    path.write_text("1 2 3 4")
    with pytest.raises(UserError, match=r"scores.json: would be overwritten, and is not scores of this program"):
        check(overwrite=True)


def test_two_outputs_must_be_different_files(tmp_path: Path) -> None:
    check_distinct(json=tmp_path / "a", report=None, per_image=tmp_path / "b")
    with pytest.raises(UserError, match="json and per_image name the same file"):
        check_distinct(json=tmp_path / "a", report=None, per_image=tmp_path / "." / "a")
