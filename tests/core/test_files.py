"""Atomic writes: a file is the old one or the complete new one."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import (
    TEMPORARY_NAME,
    replacing,
    sweep_temporary_files,
    temporary_beside,
    temporary_folder,
    write_text_atomically,
)
from clrernetlm.core.overwrite_rules import check_output


def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text_atomically(path, "old")

    def fail_halfway():
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folders_are_created_and_errors_name_the_path(tmp_path):
    write_text_atomically(tmp_path / "new/folder/a.txt", "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"b\.txt: cannot be written"):
        write_text_atomically(tmp_path / "file/b.txt", "x")


def test_devices_and_pipes_are_written_to_directly(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "null"
    os.mkfifo(pipe)
    link.symlink_to(os.devnull)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for path in (pipe, link):
        check_output(path, "scores", lambda path: False, parameter="json")
        write_text_atomically(path, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["null", "pipe"]


def begin_and_die(path, folder=False):
    """Write half a file or folder with `replacing` in a process that is killed meanwhile."""
    body = f"""
        import os, signal
        from clrernetlm.core.files import temporary_beside
        with temporary_beside({str(path)!r}) as temporary:
            if {folder}:
                temporary.mkdir()
                (temporary / "part").write_text("ha")
            else:
                temporary.write_text("ha")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(body)], check=False)


@pytest.mark.parametrize("folder", [False, True])
def test_temporary_files_of_killed_processes_are_removed(tmp_path, folder):
    begin_and_die(tmp_path / "a.txt", folder)
    (left,) = tmp_path.iterdir()
    assert left.is_dir() == folder
    sweep_temporary_files(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_first_write_to_a_folder_removes_old_temporary_files(tmp_path):
    begin_and_die(tmp_path / "a.txt")
    write_text_atomically(tmp_path / "b.txt", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_files_in_use_and_other_files_are_not_removed(tmp_path):
    others = {".a.tmp", "a.txt", ".hidden", ".a.123.tmp"}
    for name in others:
        (tmp_path / name).write_text("")
    with replacing(tmp_path / "mine") as mine:
        mine.write_text("x")
        # A file that a living process writes; the parent of this process stands for it.
        theirs = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
        theirs.write_text("x")
        sweep_temporary_files(tmp_path)
        assert mine.exists()
        assert theirs.exists()
    assert {path.name for path in tmp_path.iterdir()} == {*others, "mine", theirs.name}
    # This process's id, but not a file of this process: a killed process had the same id.
    mine.write_text("x")
    sweep_temporary_files(tmp_path)
    assert not mine.exists()


def test_temporary_files_of_another_machine_are_removed_after_a_day(tmp_path):
    with temporary_beside(tmp_path / "a.txt") as mine:
        place = TEMPORARY_NAME.match(mine.name)["place"]
    fresh, old = (mine.with_name(mine.name.replace(place, other)) for other in ("0" * 6, "1" * 6))
    fresh.write_text("")
    old.write_text("")
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    sweep_temporary_files(tmp_path)
    assert list(tmp_path.iterdir()) == [fresh]


def test_temporary_names_fit_the_length_limit_and_differ_between_threads(tmp_path):
    longest = tmp_path / ("ä" * 127)
    with replacing(longest) as one, replacing(longest) as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert [path.name for path in tmp_path.iterdir()] == [longest.name]


def test_a_temporary_name_keeps_the_suffix_where_a_library_needs_it(tmp_path):
    with temporary_beside(tmp_path / "clip.mp4", keep_suffix=True) as temporary:
        assert temporary.suffix == ".mp4"
        assert TEMPORARY_NAME.match(temporary.name)


def test_temporary_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    begin_and_die(tmp_path / "clrernetlm", folder=True)
    with temporary_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())
