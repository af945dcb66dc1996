"""Several processes that share a test print, write and return the same as one."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clrernetlm.config.python_source import to_source
from clrernetlm.core.errors import UserError
from clrernetlm.distributed.process_group import launched_processes, process_group
from clrernetlm.evaluation.prompt_modes import PAPER_MODES, PromptProtocol
from clrernetlm.evaluation.score_detector import score_detector
from clrernetlm.evaluation.score_lanelm import score_lanelm
from clrernetlm.evaluation.score_options import RunOptions, ScoreOutputs
from clrernetlm.weights.build_models import save_lanelm
from tests.helpers.drawn_roads import describe_lanes, write_drawn_roads
from tests.helpers.lanelm_networks import small_network
from tests.helpers.processes import START, free_ports, join_launch
from tests.helpers.small_detector import small_config
from tests.helpers.small_lanelm import random_lanelm_detector, solid_white_detector, with_fovea

IMAGES = 5
WORLD = 2
BROKEN = "driver_1/clip.MP4/00003.lines.txt"  # of the second process
REPOSITORY = Path(__file__).parents[2]


def settings_of(root, test_list):
    config = small_config(root, root)
    config.task, config.lanelm.network, config.model.decode.conf_threshold = "lanelm", small_network(), 0.5
    config.data.batch_size, config.data.test_list = 2, f"list/{test_list}.txt"
    return config


def detect(root, test_list, folder):
    config = settings_of(root, test_list)
    config.task = "clrernet"
    config.model.viewport_mode = "auto"
    files = {"out": f"{folder}/out", "json": f"{folder}/scores.json", "report": f"{folder}/report.html"}
    return score_detector(config, f"{root}/lanelm.pth", ScoreOutputs(**files), RunOptions(device="cpu"))


def ask(root, test_list, folder):
    files = {"out": f"{folder}/out", "json": f"{folder}/scores.json", "report": f"{folder}/report.html"}
    return score_lanelm(
        settings_of(root, test_list),
        f"{root}/lanelm.pth",
        PromptProtocol(PAPER_MODES),
        ScoreOutputs(**files),
        RunOptions(device="cpu"),
    )


def score_attributes(root, test_list, folder):
    config = with_fovea(settings_of(root, test_list))
    files = {"json": f"{folder}/scores.json", "report": f"{folder}/report.html"}
    run = RunOptions(device="cpu")
    return score_lanelm(config, f"{root}/fovea.pth", PromptProtocol(("none", "2")), ScoreOutputs(**files), run)


def fail(root, test_list, folder):
    """Remove a label file that only one of the processes reads."""
    config = settings_of(root, test_list)
    config.data.root = f"{root}/broken"
    return score_detector(config, f"{root}/lanelm.pth", ScoreOutputs(out=f"{folder}/out"), RunOptions(device="cpu"))


CASES = {
    "detector": (detect, "test"),
    "lanelm": (ask, "test"),
    "attributes": (score_attributes, "test"),
    "one image": (detect, "single"),
    "twice listed": (ask, "double"),
    "error": (fail, "test"),
}


def run_case(name, root, folder):
    """Return the output, the result and the error of a test."""
    call, test_list = CASES[name]
    output, result = io.StringIO(), None
    os.chdir(folder)  # messages name relative paths, the same in every folder
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            result = call(root, test_list, ".")
        except UserError as error:
            result = f"error: {error}"
        except SystemExit as leaving:
            result = f"exit {leaving.code}"
    # The first process prints that it compiles kernels, if none are cached on this machine.
    lines = [line for line in output.getvalue().splitlines(keepends=True) if "compiling for this processor" not in line]
    return {"printed": "".join(lines), "result": result}


def one_of_several(rank, root, folder, ports):
    """Run as a process that torchrun has started."""
    torch.set_num_threads(1)
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    results = {}
    for name, port in zip(CASES, ports, strict=True):
        join_launch(rank, WORLD, port)
        where = Path(folder) / (name if rank == 0 else f"{name} {rank}")
        where.mkdir()
        results[name] = run_case(name, root, where)
    torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    root = write_drawn_roads(tmp_path_factory.mktemp("roads"), IMAGES)
    paths = (root / "list/test.txt").read_text().split()
    (root / "list/test_split").mkdir()
    (root / "list/test_split/test0_normal.txt").write_text("\n".join(paths[:-2]) + "\n")
    (root / "list/test_split/test1_night.txt").write_text(paths[-1] + "\n")
    (root / "list/single.txt").write_text(paths[0] + "\n")
    (root / "list/double.txt").write_text("\n".join([*paths, paths[0], paths[1], paths[0]]) + "\n")
    write_drawn_roads(root / "broken", IMAGES)
    (root / "broken" / BROKEN).unlink()
    save_lanelm(random_lanelm_detector(settings_of(root, "test")), root / "lanelm.pth")
    save_lanelm(solid_white_detector(with_fovea(settings_of(root, "test"))), root / "fovea.pth")
    describe_lanes(root, range(IMAGES - 1))
    return root


@pytest.fixture(scope="module")
def runs(roads, tmp_path_factory):
    """Return folders and results of one process, and of two."""
    alone, shared = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("shared")
    start = torch.multiprocessing.start_processes
    others = start(
        one_of_several, (str(roads), str(shared), free_ports(len(CASES))), WORLD, join=False, start_method=START
    )
    home, threads = os.getcwd(), torch.get_num_threads()
    torch.set_num_threads(1)
    expected = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "120")
        try:
            for name in CASES:
                (alone / name).mkdir()
                expected[name] = run_case(name, str(roads), alone / name)
        finally:
            os.chdir(home)
            torch.set_num_threads(threads)
    while not others.join(300):
        pass
    return alone, expected, shared, [torch.load(shared / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["detector", "lanelm", "attributes", "one image", "twice listed"])
def test_two_processes_score_as_one(runs, name):
    alone, expected, shared, (first, second) = runs
    assert first[name]["result"] == expected[name]["result"]
    assert first[name]["printed"] == expected[name]["printed"] != ""
    files = files_of(alone / name)
    assert {"scores.json", "report.html"} <= files.keys()
    brought = files_of(shared / name)
    assert brought.keys() == files.keys()
    # Each list line of an image writes its lanes again, with the rounding of another batch, and the order may differ.
    repeated = ("per_image.jsonl", ".lines.txt", ".html") if name == "twice listed" else ()
    assert [path for path in files if brought[path] != files[path] and not path.endswith(repeated)] == []
    assert second[name] == {"printed": "", "result": {}}
    assert files_of(shared / f"{name} 1") == {}


def test_the_scored_data_contains_lanes(runs):
    _, expected, _, _ = runs
    for name, images in (("detector", IMAGES), ("one image", 1)):
        total = expected[name]["result"]["total"]["0.1"]
        assert total["tp"] + total["fn"] > images
        assert expected[name]["result"]["images"] == images
    document = expected["lanelm"]["result"]
    assert document["verification"]["true"] + document["verification"]["false"] > IMAGES
    assert document["calibration"]["lanelm"]["lanes"] > IMAGES
    described = expected["attributes"]["result"]["modes"]["2"]["attributes"]
    assert described["colour"] == {
        "lanes": described["lanes"],
        "right": 1.0,
        "confusion": {"white": {"white": described["lanes"]}},
    }
    assert described["lanes"] > IMAGES


def test_an_error_of_one_process_ends_all_with_that_error(runs):
    _, expected, _, (first, second) = runs
    assert BROKEN in expected["error"]["result"]
    assert first["error"] == expected["error"]
    assert second["error"] == {"printed": "", "result": "exit 0"}


def command(root, folder, *words):
    """Run `clrernetlm test` as a user does."""
    config = settings_of(root, "test")
    config.task = "clrernet"
    (folder / "config.py").write_text(to_source(config))
    arguments = ["-m", "clrernetlm", "test", "config.py", f"{root}/lanelm.pth", "--device", "cpu", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_option_processes_starts_processes(runs, roads, tmp_path):
    _, expected, _, _ = runs
    done = command(roads, tmp_path, "--processes", "2", "--json", "scores.json", "--model.viewport_mode", "auto")
    assert done.returncode == 0, done.stderr
    table = expected["detector"]["printed"].partition("report:")[0]
    assert done.stdout == table
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("processes", "environment", "message"),
    [
        (0, {}, "processes: 0 is not a number of processes"),
        (100_000_000, {}, "processes: 100000000 is not a number of processes; use 1 to "),
        (10**40, {}, "processes: 1000.*0 is not a number of processes"),
        (3, {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, "processes: 3, but the launcher started 2"),
        (1, {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"}, "3 processes were started on 1 machines"),
    ],
)
def test_mismatched_numbers_of_processes_are_refused(monkeypatch, processes, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    with pytest.raises(UserError, match=message), process_group(processes, 1):
        pass


def test_a_launcher_with_one_process_needs_no_process_group(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    with process_group(1, 4) as group:
        assert group.is_single
        assert group.is_main
        assert list(group.in_list_order("abc")) == ["a", "b", "c"]


def test_the_number_of_processes_is_read_from_slurm(monkeypatch):
    for name, value in {"STEP_NUM_TASKS": 8, "STEP_NUM_NODES": 2, "NTASKS": 8}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert launched_processes() == (4, 2)
    with pytest.raises(UserError, match="use --ntasks-per-node"), process_group(1, 1):
        pass
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS")  # the batch script itself, outside of srun
    assert launched_processes() is None
