"""Kills commands at random moments, and checks that files stay complete, nothing is left behind and results are equal.

Run: python benchmarks/kills.py --kills 200. Every command works on a small generated data set. It runs undisturbed
first. Then, in rounds, it is started and killed several times, by SIGKILL, SIGTERM, Ctrl-C (SIGINT to all of its
processes) or the death of one of its workers, each after a random share of its run time; training continues with
`--resume`. Then it runs to its end. Faults are: a file that cannot be read or differs from the one of the undisturbed
run; another exit code than 143, 130 or 2 (or 0, if the command finished before the kill); a traceback; a process that
survives; temporary files after the last run; a last run that fails; a result that differs in any bit. The table counts
faults per command; the output of faulty runs is kept. Needs POSIX: commands run in forks of this process, which has
already loaded the libraries, so that kills hit the work and not the imports.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import xml.etree.ElementTree
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from timing import machine, positive

from clrernetlm.cli import main as clrernetlm
from clrernetlm.cli.commands import COMMANDS
from clrernetlm.cli.exit_codes import ENDING, exit_code_of
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import TEMPORARY_NAME, sha256
from clrernetlm.core.overwrite_rules import RESULTS_LOG

IMAGES = 12
SMALL = [  # a detector that learns nothing, but writes everything that a large one does
    "--model.backbone.name=dla46_c",
    "--model.backbone.pretrained=False",
    "--model.viewport.width=96",
    "--model.viewport.height=64",
    "--model.head.num-priors=24",
    "--model.loss.seg-weight=0",
    "--data.diff-file=None",
    "--data.batch-size=4",
    "--training.device=cpu",
    "--training.epochs=3",
]
SMALL_LANELM = [
    "--lanelm.network.num-steps=16",
    "--lanelm.network.nbins-x=80",
    "--lanelm.network.embed-dim=32",
    "--lanelm.network.num-heads=2",
    "--lanelm.network.ffn-dim=64",
    "--lanelm.cached_augmentations=1",
    "--lanelm.cache=cache",
]
WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "worker killed")
IN_A_ROW = 3  # kills before a command may run to its end
ORPHANED_AFTER = 15.0  # seconds after which a process that lives on is one that was left behind
PATIENCE = 240.0  # seconds for an undisturbed run

# In the folder for temporary files: sockets of multiprocessing, caches that PyTorch keeps.
FOREIGN_FOLDERS = ("pymp-", "torchinductor_")


@dataclass(frozen=True)
class Case:
    """One command: its words, what they need, and whether it has workers that can be killed."""

    name: str
    words: tuple[str, ...]
    needs: tuple[str, ...] = ("roads",)
    workers: bool = False

    @property
    def trains(self) -> bool:
        """Whether the command goes on where it was killed, from checkpoints."""
        return self.words[0] == "train"


def cases() -> list[Case]:
    """All commands that write files; paths of inputs are filled in for names in braces."""
    small = [*SMALL, "--data.root={roads}", "--training.work-dir=run"]
    lanelm = [*small, *SMALL_LANELM, "--lanelm.detector={detector}"]
    evaluated = ("--pred={many}", "--gt={many}", "--list={many}/list/train.txt")
    found = [
        Case("synth", ("synth", "out", "--train=4", "--val=1", "--test=1", "--size=205x74", "--workers=2"), (), True),
        Case("check-data", ("check-data", "{many}", "--decode", "--workers=2"), ("many",), True),
        Case(
            "evaluate",
            ("evaluate", *evaluated, "--workers=2", "--json=scores.json", "--per-image=images.jsonl"),
            ("many",),
            True,
        ),
        Case("detect images", ("detect", "--model={packed}", "--device=cpu", "{images}"), ("packed", "roads")),
        Case("detect video", ("detect", "--model={packed}", "--device=cpu", "{clip}"), ("packed", "clip")),
        Case(
            "test",
            ("test", "{packed}", "--device=cpu", "--data.root={roads}", "--out=out", "--json=scores.json"),
            ("packed", "roads"),
        ),
        Case("pack", ("pack", "{detector}", "packed.safetensors"), ("detector",)),
        Case("export onnx", ("export", "{packed}", "--to=onnx", "--out=lanes.onnx"), ("packed",)),
        Case("export openvino", ("export", "{packed}", "--to=openvino", "--out=lanes.xml"), ("packed",)),
        Case("export torch", ("export", "{packed}", "--to=torch", "--out=lanes.pt2"), ("packed",)),
    ]
    for workers in (0, 1, 3):
        more = (f"--data.num-workers={workers}",)
        config = "clrernet_culane_dla46_c"
        found.append(Case(f"train, {workers} workers", ("train", config, *small, *more), ("roads",), workers > 0))
        needs = ("roads", "detector")
        found.append(Case(f"train lanelm, {workers} w.", ("train", "base_lanelm", *lanelm, *more), needs, workers > 0))
    average = ("--training.ema-momentum=0.01", "--data.num-workers=1")
    found.append(Case("train, averaged", ("train", "clrernet_culane_dla46_c", *small, *average), ("roads",), True))
    return found


@dataclass
class Run:
    """A command that runs in a fork of its own, at the head of a session of its own."""

    process: int
    said: Path
    began: float = field(default_factory=time.monotonic)
    code: int | None = None  # negative: the number of the signal that ended it

    def poll(self) -> int | None:
        """The exit code; None while the command runs."""
        if self.code is None:
            done, status = os.waitpid(self.process, os.WNOHANG)
            if done:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float) -> int | None:
        """The exit code; None if the command still runs after `seconds`."""
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        return self.code


started: list[int] = []  # processes, the last of which may be running


def start(words: Sequence[str], folder: Path) -> Run:
    """Start `clrernetlm WORDS` in `folder`; what it prints goes to the file `said` beside that."""
    said = folder.with_name("said")
    process = os.fork()
    if process:
        started.append(process)
        return Run(process, said)
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder.with_name("tmp"))
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        faulthandler.enable()  # where a crash happened stands in `said`
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in ENDING:  # as a process of its own begins with
            signal.signal(number, signal.SIG_DFL)
        for number, name in ((1, "stdout"), (2, "stderr")):
            stream = open(number, "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        code = clrernetlm(words)
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def session_members(session: int) -> list[int]:
    """The living processes of a session, read from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                facts = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(facts[3]) == session and facts[0] not in "ZX":
                found.append(int(entry.name))
    return found


def is_worker(process: int, session: int) -> bool:
    """Whether a process of a session works, and neither leads it nor keeps the books of others."""
    with suppress(OSError):
        return process != session and b"resource_tracker" not in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def end_session(session: int) -> bool:
    """Wait until no process of a session lives; one that stays is killed, and the answer False."""
    end = time.monotonic() + ORPHANED_AFTER
    while left := session_members(session):
        if time.monotonic() > end:
            for process in left:
                os.kill(process, signal.SIGKILL)
            return False
        time.sleep(0.01)
    return True


class Inputs:
    """What the commands work on, made when first asked for, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        for name in ("scratch", "tmp"):
            (folder / name).mkdir()

    def filled(self, words: Sequence[str]) -> list[str]:
        """Words with the paths of inputs in the place of names in braces."""
        names = ("roads", "many", "images", "clip", "detector", "packed")
        used = {name: str(self.path(name)) for name in names if any(f"{{{name}}}" in word for word in words)}
        return [word.format(**used) for word in words]

    @cache  # noqa: B019
    def path(self, name: str) -> Path:
        """The path of an input, which is made if it is not there."""
        return {
            "roads": self.roads,
            "many": self.many,
            "images": lambda: next(self.path("roads").glob("driver_01/*")),
            "clip": self.clip,
            "detector": self.detector,
            "packed": self.packed,
        }[name]()

    def command(self, *words: str) -> None:
        """Run a command to its end."""
        run = start(self.filled(words), self.scratch)
        if run.wait(PATIENCE) != 0:
            raise UserError(f"clrernetlm {' '.join(words)}: {run.said.read_text()[-400:]}")

    def roads(self) -> Path:
        """Generated roads."""
        roads = self.folder / "roads"
        sizes = (f"--train={IMAGES}", "--val=2", "--test=4", "--size=410x148")
        self.command("synth", str(roads), *sizes)
        return roads

    def many(self) -> Path:
        """A list of 300 images with labels, drawn without the package."""
        many, rng = self.folder / "many", np.random.default_rng(0)
        names = [f"clip{number // 100}/{number:04d}" for number in range(300)]
        picture = rng.integers(0, 255, (590, 1640, 3), np.uint8)
        jpeg = cv2.imencode(".jpg", cv2.GaussianBlur(picture, (31, 31), 0))[1].tobytes()
        rows = np.arange(589, 300, -10)
        for name in names:
            (many / name).parent.mkdir(parents=True, exist_ok=True)
            (many / f"{name}.jpg").write_bytes(jpeg)
            lanes = [start + slope * (589 - rows) for start, slope in rng.uniform((200, -1), (1400, 1), (3, 2))]
            lines = (" ".join(f"{x:.2f} {y}" for x, y in zip(lane, rows, strict=True)) for lane in lanes)
            (many / f"{name}.lines.txt").write_text("".join(f"{line}\n" for line in lines))
        (many / "list").mkdir()
        (many / "list/train.txt").write_text("".join(f"/{name}.jpg\n" for name in names))
        return many

    def clip(self) -> Path:
        """A video of the roads."""
        path = self.folder / "clip.mp4"
        pictures = sorted(self.path("roads").glob("driver_01/*/*.jpg"))
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (410, 148))
        for picture in pictures * 3:
            writer.write(cv2.imread(str(picture)))
        writer.release()
        return path

    def detector(self) -> Path:
        """A training checkpoint of a small detector."""
        words = ("train", "clrernet_culane_dla46_c", *SMALL, "--data.root={roads}", "--data.num-workers=0")
        self.command(*words, "--training.epochs=1", f"--training.work-dir={self.folder / 'detector'}")
        return next(self.folder.glob("detector/checkpoints/epoch_*.ckpt"))

    def packed(self) -> Path:
        """The same, packed."""
        path = self.folder / "packed.safetensors"
        self.command("pack", "{detector}", str(path), "--model.decode.conf-threshold=0.1")
        return path


def tree(folder: Path) -> dict[str, Path]:
    """All files of a folder by their path in it, but those that only grow: logs, records of results, and locks."""
    logs = ("metrics", "events.out", "hparams", RESULTS_LOG)
    return {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(logs) and path.suffix != ".lock"
    }


def unfinished(path: Path) -> bool:
    """Whether a file is, or is in, one that is still being written, as its name says."""
    return any(TEMPORARY_NAME.match(part) or part.endswith((".part", ".tmp")) for part in path.parts)


def read_whole(path: Path) -> None:
    """Read all of a file; raises whatever its reader raises for half of one."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
        ".ckpt": read_checkpoint,
        ".safetensors": read_checkpoint,
        ".npz": lambda path: {name: np.asarray(values) for name, values in np.load(path).items()},
        ".npy": lambda path: np.load(path, mmap_mode="r"),
        ".jpg": read_picture,
        ".png": read_picture,
        ".mp4": read_video,
        ".xml": lambda path: xml.etree.ElementTree.parse(path),
        ".onnx": read_onnx,
        ".pt2": lambda path: zipfile.ZipFile(path).testzip(),
        ".txt": read_lines,
    }
    if path.suffix in readers:
        readers[path.suffix](path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    from clrernetlm.weights.checkpoint import read_checkpoint as read

    return read(path)


def read_onnx(path: Path) -> None:
    import onnx

    onnx.checker.check_model(onnx.load(path))


def read_picture(path: Path) -> None:
    from clrernetlm.core.images import read_image

    read_image(str(path), cv2.IMREAD_COLOR)


def read_video(path: Path) -> None:
    from clrernetlm.core.video import Video

    with Video(path) as video:
        frames = sum(1 for _ in video)
    if not frames or frames != video.count:
        raise ValueError(f"{frames} of {video.count} frames")


def read_lines(path: Path) -> None:
    text = path.read_text()
    if text and not text.endswith("\n"):
        raise ValueError("the last line has no end")


def same(path: Path, other: Path) -> bool:
    """Whether two files hold the same: bytes, or of training checkpoints all that training goes on from."""
    if path.suffix != ".ckpt":
        return sha256(path) == sha256(other)
    return equal(trained(path), trained(other))


def trained(path: Path) -> dict[str, Any]:
    """What a checkpoint holds of the training: weights, optimiser, schedule, average, counters."""
    held = read_checkpoint(path)
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "current_model_state")
    return {name: held[name] for name in kept if name in held}


def equal(one: Any, other: Any) -> bool:
    """Whether trees of containers hold the same values, tensors bit for bit."""
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


@dataclass
class Row:
    """What happened to one command."""

    seconds: float = 0.0  # of the undisturbed run
    ways: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    reruns: int = 0
    slowest: float = 0.0  # seconds until the last process of a killed command was gone


class Killer:
    """Kills one command in rounds, and looks at what is left."""

    def __init__(self, case: Case, inputs: Inputs, folder: Path, seed: int) -> None:
        self.case, self.inputs, self.folder = case, inputs, folder
        self.random = random.Random(f"{seed} {case.name}")
        self.row = Row()
        self.ways = self.random.sample(WAYS if case.workers else WAYS[:3], 4 if case.workers else 3)
        self.work = folder / "work"
        self.reference = folder / "reference"
        for name in ("work", "tmp"):
            (folder / name).mkdir(parents=True)
        run = start(self.words(), self.work)
        if run.wait(PATIENCE) != 0:
            raise UserError(f"{self.case.name}: fails without being killed: {run.said.read_text()[-600:]}")
        self.row.seconds = time.monotonic() - run.began
        self.work.rename(self.reference)
        self.expected = tree(self.reference)
        self.work.mkdir()

    def words(self) -> list[str]:
        """The words of the next start: of a training that has a checkpoint, with `--resume`."""
        words = self.inputs.filled(self.case.words)
        if self.case.trains and list(self.work.glob("run/checkpoints/epoch_*.ckpt")):
            return [*words, "--resume"]
        if "overwrite" in {item.name for item in fields(COMMANDS[words[0]])}:
            return [*words, "--overwrite"]
        return words

    def kill(self) -> None:
        """Start the command, kill it in the way that is next, look at what it leaves."""
        way = self.ways[self.row.ways.total() % len(self.ways)]
        delay = self.random.uniform(0.0, 1.05) * self.row.seconds
        run = start(self.words(), self.work)
        run.wait(delay)
        at = time.monotonic()
        if way == "worker killed":
            others = [process for process in session_members(run.process) if is_worker(process, run.process)]
            if not others:
                way = "SIGKILL"
            else:
                self.send(self.random.choice(others), signal.SIGKILL)
        if way == "SIGINT":
            for process in session_members(run.process):
                self.send(process, signal.SIGINT)
        elif way != "worker killed" and run.poll() is None:
            os.kill(run.process, getattr(signal, way))
        self.row.ways[way] += 1
        code = run.wait(PATIENCE)
        if code is None:
            self.fault(run, f"{way}: hangs")
        gone = end_session(run.process)
        self.row.slowest = max(self.row.slowest, time.monotonic() - at)
        run.wait(PATIENCE)
        if not gone:
            self.fault(run, f"{way}: processes stay")
        # A process that has not yet come to answer signals, or does not any more, ends by them.
        allowed = {"SIGKILL": (0, -9), "SIGTERM": (0, 143, -15), "SIGINT": (0, 130, -2), "worker killed": (0, 2)}
        if code not in allowed[way]:
            self.fault(run, f"{way}: exit code {code}")
        if "Traceback" in run.said.read_text():
            self.fault(run, f"{way}: traceback")
        self.inspect(run, way)

    def send(self, process: int, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(process, number)

    def inspect(self, run: Run, way: str) -> None:
        """Look for half-written files."""
        for name, path in tree(self.work).items():
            if unfinished(Path(name)):
                continue
            try:
                read_whole(path)
            except Exception as error:
                self.fault(run, f"{way}: {name} is half-written ({type(error).__name__}: {str(error)[:80]})")
                continue
            # Ctrl-C and SIGTERM end a video or the list of all images properly, with what there is so far.
            shortened = self.case.words[0] == "detect" and path.suffix in (".json", ".mp4")
            compared = name in self.expected and not self.case.trains and not shortened
            if compared and not same(path, self.expected[name]):
                self.fault(run, f"{way}: {name} is another file")

    def finish(self) -> None:
        """Let the command run to its end, compare, and begin anew."""
        run = start(self.words(), self.work)
        code = run.wait(PATIENCE)
        self.row.reruns += 1
        if code != 0 or not end_session(run.process):
            self.fault(run, f"the last run ends with {code}")
        if not self.case.trains:  # which only had to go on; the first run may have compiled kernels
            self.row.seconds = min(self.row.seconds, time.monotonic() - run.began)
        found = tree(self.work)
        for name in sorted(found.keys() ^ self.expected.keys()):
            self.fault(run, f"{name} is {'left behind' if name in found else 'missing'}")
        for name in sorted(found.keys() & self.expected.keys()):
            if not same(found[name], self.expected[name]):
                self.fault(run, f"{name} is another one in the end")
        names = [path.name for path in self.folder.joinpath("tmp").iterdir()]
        strays = [name for name in names if not name.startswith(FOREIGN_FOLDERS)]
        if strays:
            self.fault(run, f"{len(strays)} temporary files are left, {strays[0]} among them")
        shutil.rmtree(self.work)
        self.work.mkdir()
        shutil.rmtree(self.folder / "tmp")
        (self.folder / "tmp").mkdir()

    def fault(self, run: Run, what: str) -> None:
        """Note a fault, and keep what the command printed."""
        self.row.faults.append(what)
        shutil.copyfile(run.said, self.folder / f"fault{len(self.row.faults)}.txt")


def rounds(cases: Sequence[Case], kills: int) -> Iterator[tuple[Case, int]]:
    """Commands in turn, each with a number of kills, that add up to `kills`."""
    for case in itertools.cycle(cases):
        number = min(IN_A_ROW, kills)
        kills -= number
        if not number:
            return
        yield case, number


def table(rows: dict[str, Row]) -> Table:
    """What happened, a row per command."""
    columns = ("command", "undisturbed s", *WAYS, "runs to the end", "slowest end s", "faults")
    shown = Table(*columns, title="kills")
    for name, row in rows.items():
        counts = [str(row.ways[way]) for way in WAYS]
        cells = [f"{row.seconds:.1f}", *counts, str(row.reruns), f"{row.slowest:.1f}", str(len(row.faults))]
        shown.add_row(name, *cells)
    return shown


def main() -> int:
    """Kill, print the table, and end with 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=positive, default=200, help="over all commands")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="commands, or beginnings of their names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="for everything, and what faulty commands print; default: a new one"
    )
    options = parser.parse_args()
    if not hasattr(os, "fork") or not Path("/proc").is_dir():
        raise UserError("kills.py: needs Linux: it forks, and finds processes in /proc")
    chosen = [case for case in cases() if not options.only or case.name.startswith(tuple(options.only))]
    if not chosen:
        raise UserError(f"--only: {options.only[0]} begins none of {', '.join(case.name for case in cases())}")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--folder: {folder} is not empty; name a new one")
    if any(case.words[0] not in ("synth", "evaluate", "check-data") for case in chosen):
        pass
    cv2.setNumThreads(0)  # forks would wait for OpenCV's threads
    (folder / "inputs").mkdir(parents=True)
    began = time.monotonic()
    rows: dict[str, Row] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("Kills", total=options.kills)
        inputs = Inputs(folder / "inputs")
        killers: dict[Case, Killer] = {}
        try:
            for case, kills in rounds(chosen, options.kills):
                bar.update(task, description=case.name)
                if case not in killers:
                    place = folder / case.name.replace(" ", "_").replace(",", "")
                    killers[case] = Killer(case, inputs, place, options.seed)
                    rows[case.name] = killers[case].row
                for _ in range(kills):
                    killers[case].kill()
                    bar.advance(task)
                killers[case].finish()
        except KeyboardInterrupt:
            print("interrupted; so far:")
        finally:
            for process in session_members(started[-1]) if started else ():
                os.kill(process, signal.SIGKILL)
    Console(width=130).print(table(rows))
    faults = [f"{name}: {fault}" for name, row in rows.items() for fault in row.faults]
    for fault in faults:
        print(fault)
    killed = sum(row.ways.total() for row in rows.values())
    print(f"{machine()}: {killed} kills in {time.monotonic() - began:.0f} s, seed {options.seed}, {len(faults)} faults")
    if faults:
        print(f"what the faulty commands printed is in {folder}/*/fault*.txt")
    elif options.folder is None:
        shutil.rmtree(folder)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
