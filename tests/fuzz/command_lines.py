"""Command lines with surplus, missing, misspelt or wrong arguments."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from clrernetlm.cli import main
from clrernetlm.core.errors import UserError
from tests.fuzz.mutations import NUMBERS, damage_words
from tests.fuzz.seeds import content

COMMAND_LINES = ("commands", "processes")  # kinds of input
SITE = "CLRERNETLM_FUZZ_SITE"  # environment variable: the folder whose `sitecustomize` starts the auditor
MEGABYTES = 1500  # that a process may use
TRAIN = (
    "train tiny.py --data.root data --training.epochs 1 --training.max-steps 1 --data.batch-size 2 "
    "--data.num-workers 0 --training.work-dir out/run"
)
LINES = (
    "detect photo.jpg --model models/tiny.safetensors --out out",
    "detect photo.jpg --model models/tiny.onnx --out out --conf 0.4",
    "detect data/driver_1 --model models/tiny.safetensors --out out --crop 0.4,0.9 --one-camera",
    "detect clip.avi --model models/tiny.safetensors --out out --no-tracking",
    "detect tiny.py models/tiny.pth photo.jpg --out out --model.decode.conf-threshold 0.3",
    "test tiny.py models/tiny.pth --data.root data --out out/lanes --json out/a.json --report out/a.html",
    "test models/lanelm.safetensors --data.root data --data.categories folders --out out/lanes --noise 3",
    "evaluate --pred predictions --gt data --list data/list/test.txt --json out/a.json --workers 1 --width 8",
    "evaluate --pred predictions --gt data --list data/list/test.txt --json out/a.json --workers 1 "
    "--image-size 328x118 --categories data/list/test_split --implementation official --per-image out/images.jsonl",
    "check-data data --contact-sheet out/sheet.jpg --workers 1 --lists list/test.txt --max-lanes 4",
    "tokens data/driver_1/clip_0.MP4/00000.lines.txt --steps 16 --bins 80 --lane 2 --frame 328x118",
    "config tiny.py --save out/config.py --training.epochs 3",
    "config clrernet_culane_dla34 --model.viewport.top 0.5",
    "config mmdetection/clrernet/culane/clrernet_culane_dla34.py",
    "models",
    "models get tiny --to out",
    "pack models/tiny.ckpt out/packed.safetensors --precision fp16",
    "pack models/tiny.pth out/packed.safetensors --config tiny.py",
    "export missing.ckpt missing.pth --to onnx --out out/a.onnx",
    "speed tiny.py models/tiny.pth --device cpu --batch 1 --iterations 1 --precision fp32",
    "synth out/roads --train 1 --val 0 --test 0 --size 328x118 --workers 1 --seed 3",
    TRAIN,
    TRAIN + " --resume",
    "--version",
    "help",
)  # fmt: skip
OPTIONS = (
    "--help", "-h", "--", "-", "--resume", "--out", "--json", "--device", "--device=cuda:9", "--backend=openvino",
    "--conf=nan", "--conf=0.5", "--crop=0.9,0.1", "--crop", "--seed=-1", "--training.epochs=x",
    "--model.head.num-priors=0", "--model.viewport.width=31", "--data.root=missing", "--data.root=/dev/null",
    "training.seed=1e3",
    "--model.max-lanes=300", "--lanelm.variant=plain", "--task=lanelm", "--name=..", "None", "data",
    "out",
    "photo.jpg", "clip.avi", "tiny.py", "models/tiny.pth", "models/tiny.ckpt", "models/tiny.xml", "models/tiny.pt2",
    "models/lanelm.safetensors", "missing.jpg", "/dev/null", "/dev/zero", "/proc/self/mem", ".",
    "*.jpg", "http://127.0.0.1:9/a.mp4",
    "rtsp://127.0.0.1:9/a", "99", "roads", "roads_detector", "clrernet_culane_dla34", "--split=train", "--prompts=all",
    "--image-size=auto", "--image-size=0x0", "--categories=folders", "--workers=-1",
    "--randomization=all", "--realism=x",
)  # fmt: skip
HARMLESS = ("/dev/null", "/dev/zero", "/proc/self/mem")
# What follows may take its time rightly where the numbers are large, so they stay small.
LONG = ("train", "speed", "synth", "demo", "export")
SMALL = tuple(number for number in NUMBERS if not number.strip("+-").isdigit() or len(number) < 2)


def make_command(rng: Random, seeds: Path, folder: Path) -> None:
    words = rng.choice(LINES).split()
    long = words[0] in LONG
    damaged = damage_words(rng, words, OPTIONS, SMALL if long else NUMBERS)
    if damaged[:1] == ["demo"] or (damaged[:2] == ["models", "get"] and set(damaged) & {"clrernet_culane_dla34"}):
        damaged = ["models"]  # a demo takes minutes, and a download needs the network
    if not long and damaged and damaged[0] in LONG:
        damaged[0] = "config"
    # Other folders of the machine are no place for results, not even of a faulty command.
    safe = [word for word in damaged if not word.startswith("/") or word in HARMLESS]
    write_line(seeds, folder, safe)


def write_line(seeds: Path, folder: Path, words: list[str]) -> None:
    """The words as `line.json`, and everything that the lines name."""
    for name in ("data", "predictions"):
        shutil.copytree(seeds / name, folder / name)
    shutil.copytree(seeds / "models", folder / "models", copy_function=os.link)
    shutil.copytree(seeds / "configs", folder, dirs_exist_ok=True)
    (folder / "photo.jpg").write_bytes(content(seeds / "images" / "image.jpg"))
    (folder / "clip.avi").write_bytes(content(seeds / "videos" / "clip.avi"))
    (folder / "line.json").write_text(json.dumps(words))


def read_command(seeds: Path, folder: Path) -> None:
    """Run the command line; UserError for one that ends with code 2. What it prints is judged by the watcher."""
    try:
        code = main(words_of(folder))
    except SystemExit as left:  # of `--help`
        code = left.code if isinstance(left.code, int) else 0 if left.code is None else 2
    require_right_end(code, seeds, folder)


def read_process(seeds: Path, folder: Path) -> None:
    """Run the command line as `python -m clrernetlm` in a process of its own, with an auditor; as `read_command`."""
    paths = (os.environ[SITE], str(Path(__file__).parents[2]))
    command = [sys.executable, "-m", "clrernetlm", *words_of(folder)]
    try:
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    except OSError as error:
        raise UserError(f"the system starts no such process ({error.strerror})") from None
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, memory(process.pid, "VmHWM"))
        time.sleep(0.05)
    require_right_end(process.returncode, seeds, folder)
    assert peak <= MEGABYTES, f"{peak:.0f} MB"


def words_of(folder: Path) -> list[str]:
    words: list[str] = json.loads((folder / "line.json").read_text())
    return words


def require_right_end(code: int, seeds: Path, folder: Path) -> None:
    """Raise UserError for exit code 2, AssertionError for one that no command has, and for overwritten labels."""
    assert code in (0, 1, 2, 130, 143), f"exit code {code}"
    for path in (seeds / "data").rglob("*.lines.txt"):
        label = folder / path.relative_to(seeds)
        assert label.read_bytes() == path.read_bytes(), f"{label.name}: a label was written over"
    if code == 2:
        raise UserError("exit code 2")


def memory(process: int, field: str) -> float:
    """`VmRSS` or `VmHWM` of a process in megabytes; 0 when it has gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1000
    return 0.0
