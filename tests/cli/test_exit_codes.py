"""Exit codes of commands, and one-line errors, for failures of output, memory or the process."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.errors import UserError

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and descriptors are POSIX's")


def shell(command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m clrernetlm"
    return subprocess.run(
        ["bash", "-c", command.replace("clrernetlm", program, 1)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )


@pytest.mark.parametrize("words", ["config clrernet_culane_dla34", "--version", "detect --help"])
@pytest.mark.parametrize(
    ("output", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")]
)
def test_an_unwritable_standard_output_is_a_one_line_error(words: str, output: str, reason: str) -> None:
    done = shell(f"clrernetlm {words} {output}")
    assert (done.returncode, done.stderr) == (
        2,
        f"error: standard output: cannot be written ({reason}); check where it goes\n",
    )


def test_a_command_that_prints_nothing_needs_no_standard_output(tmp_path: Path) -> None:
    done = shell(f"clrernetlm {SYNTH} >&- 2>&- <&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "roads/list/test.txt").read_text() == "/driver_03/00000.MP4/00000.jpg\n"


SYNTH = "synth roads --train 0 --val 0 --test 1 --size 200x72 --workers 1"


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
def test_a_closed_standard_error_keeps_the_exit_code(closed: str) -> None:
    done = shell(f"clrernetlm train nope.py {closed}")
    assert (done.returncode, done.stdout) == (2, "")


def process(body: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a function `command` with the lines of `body` as a command in its own process."""
    script = "import gc, os, signal, time\nfrom clrernetlm.cli.exit_codes import exit_code_of\ndef command():\n"
    script += textwrap.indent(textwrap.dedent(body), "    ") + "\nraise SystemExit(exit_code_of(command))\n"
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGTERM, 143, "terminated\n"),
        (signal.SIGHUP, 129, "terminated\n"),
        (signal.SIGINT, 130, "interrupted\n"),
    ],
)
def test_signals_clean_up_and_give_their_exit_codes(number: int, code: int, said: str, tmp_path: Path) -> None:
    body = f"""
        from clrernetlm.core.files import replacing
        with replacing("result.txt") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), {int(number)})
            time.sleep(60)
    """
    done = process(body, tmp_path)
    assert (done.returncode, done.stderr) == (code, said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_swallowed_by_a_callback_is_raised_again(number: int, code: int, tmp_path: Path) -> None:
    body = f"""
        class Callback:
            def __del__(self):
                os.kill(os.getpid(), {int(number)})
                time.sleep(60)
        one = Callback()
        del one
        time.sleep(60)
    """
    done = process(body, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_library_error_after_a_swallowed_signal_is_reported_as_the_signal(
    number: int, code: int, tmp_path: Path
) -> None:
    body = f"""
        class Callback:
            def __del__(self):
                os.kill(os.getpid(), {int(number)})
                time.sleep(60)
        one = Callback()
        del one
        raise RuntimeError("no compiled object yet")
    """
    done = process(body, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert "compiled" not in done.stderr


def test_a_signal_that_ended_a_camera_still_gives_its_exit_code(tmp_path: Path) -> None:
    body = """
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt:
            print("all frames written")
    """
    done = process(body, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (143, "all frames written\n", "terminated\n")


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    def command() -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert exit_code_of(command) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def raising(error: Exception) -> int:
    def command() -> None:
        raise error

    return exit_code_of(command)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("a.txt: bad\nline"), "a.txt: bad line"),
        (MemoryError(), "not enough memory; use smaller batches"),
        (RuntimeError("std::bad_alloc"), "not enough memory (std::bad_alloc); use"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "data.num_workers: a worker process"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "data.num_workers: a worker process"),
        (PermissionError(13, "Permission denied", "a/b"), "a/b: Permission denied; check"),
    ],
)
def test_errors_of_the_operating_system_are_one_line(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(error) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {said}")
    assert line.count("\n") == 1


def test_out_of_memory_in_pytorch_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(lambda: torch.empty(1 << 46).fill_(1)[0]) == 2  # type: ignore[return-value, arg-type]
    assert capsys.readouterr().err.startswith("error: not enough memory (")


def test_out_of_memory_in_a_library_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def load() -> None:
        try:
            raise OSError("libllvmlite.so: failed to map segment from shared object")
        except OSError as error:
            raise OSError("Could not find/load shared object file") from error

    assert exit_code_of(load) == 2
    assert capsys.readouterr().err.startswith("error: not enough memory (Could not find/load")


def test_a_bug_in_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())
