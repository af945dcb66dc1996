"""The founding prototype's training command: its options, its file names, and one-line errors."""

import csv
import importlib.util
from pathlib import Path

import pytest
import torch

from clrernetlm.config import load_config
from clrernetlm.weights.build_models import init_detector, init_lanelm, init_lanelm_detector
from clrernetlm.weights.checkpoint import save_official
from tests.helpers.drawn_roads import write_drawn_roads

TOOL = Path(__file__).parents[2] / "tools" / "train_lanelm_culane.py"
CONFIG = """
from clrernetlm.config import AugmentationConfig, EvaluationConfig, HeadConfig, load_config
from clrernetlm.core.viewport import Viewport
config = load_config("clrernet_culane_dla34_ema")
config.model.viewport = Viewport(width=160, height=64, top=0.45)
config.model.head = HeadConfig(num_priors=48, roi_channels=12)
config.evaluation = EvaluationConfig(image_size=(410, 148), lane_width=8)
config.data.augmentation = AugmentationConfig(
    flip=0, channel_shuffle=0, brightness_contrast=0, hsv=0, blur=0, affine=0
)
"""
NETWORK = {"embed_dim": 32, "num_layers": 3, "num_heads": 2, "ffn_dim": 64, "num_points": 16, "nbins_x": 80}


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("train_lanelm_culane", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a data set, a config and a detector, side by side as in the published instructions."""
    folder = tmp_path_factory.mktemp("culane")
    write_drawn_roads(folder / "dataset", 16)
    (folder / "small.py").write_text(CONFIG)
    torch.manual_seed(0)
    save_official(init_detector(folder / "small.py", "random"), folder / "clrernet.pth")
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def options(**values):
    """Convert settings to command-line arguments."""
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def words(work_dir, *more):
    files = options(config="small.py", checkpoint="clrernet.pth", data_root="dataset", work_dir=work_dir)
    return [*files, *options(**NETWORK, num_workers=0), *more]


def losses(work_dir):
    with open(Path(work_dir) / "metrics.csv", newline="") as lines:
        return [float(row["loss"]) for row in csv.DictReader(lines) if row["loss"]]


@pytest.mark.parametrize("plain", [False, True])
def test_training_writes_a_file_for_every_epoch(plain, tool, folder, tmp_path, capsys):
    more = options(train_list="dataset/list/train_gt.txt", epochs=3, batch_size=4, device="cuda", lr=3e-3)
    assert tool.main(words(tmp_path, *more, *(["--plain"] if plain else []))) == 0
    printed = capsys.readouterr()
    if not torch.cuda.is_available():
        assert "warning: CUDA is not available; training on the CPU\n" in printed.err
    assert "dataset/list/train_diffs.npz does not exist; training on every image" in printed.err
    found = losses(tmp_path)
    assert len(found) == 12
    assert sum(found[-4:]) < 0.95 * sum(found[:4])
    config = load_config("small.py")
    config.lanelm.variant = "plain" if plain else "full"
    network = config.lanelm.network
    network.num_steps, network.nbins_x, network.embed_dim, network.num_heads, network.ffn_dim = 16, 80, 32, 2, 64
    for epoch in (1, 2, 3):
        path = tmp_path / f"lanelm_culane_dla34_epoch{epoch}.pth"
        assert f"epoch {epoch}: loss" in printed.out
        assert str(path) in printed.out
        reader = init_lanelm_detector(config, path) if plain else init_lanelm(config, path)
        detector = init_detector("small.py", "clrernet.pth")
        assert all(
            torch.equal(value, reader.detector.state_dict()[name]) for name, value in detector.state_dict().items()
        )


def failure(tool, capsys, arguments):
    assert tool.main(arguments) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert sum(line.startswith("error: ") for line in printed) == 1
    return printed[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--diff-file", "nowhere.npz"],
            "error: --diff-file: nowhere.npz is neither in the working directory nor under dataset",
        ),
        (["--checkpoint", "nowhere.pth"], "error: nowhere.pth: no such checkpoint"),
        (["--train-list", "nowhere.txt"], "nowhere.txt: the image list cannot be read"),
        (["--num-heads", "5"], "embed_dim: 32 is not a multiple of num_heads (5)"),
        (["--epochs", "zero"], "error: argument --epochs: invalid int value: 'zero'; see --help"),
        (["--epochs", "0"], "error: training.epochs: 0 is out of range"),
        (["--lrr", "1"], "error: unrecognized arguments: --lrr 1; see --help"),
        (["--config", "nowhere"], "nowhere"),
    ],
)
def test_user_errors_are_one_line(arguments, message, tool, tmp_path, capsys):
    assert message in failure(tool, capsys, words(tmp_path, *arguments))
    assert not list(tmp_path.glob("*.pth"))


def test_lists_and_frame_differences_are_found_in_the_working_directory_or_data_set(tool, folder):
    root = folder / "dataset"
    (root / "list/differences.npz").write_bytes(b"")
    for train_list in ("list/train_gt.txt", "dataset/list/train_gt.txt", str(root / "list/train_gt.txt")):
        for differences in ("list/differences.npz", "dataset/list/differences.npz"):
            given = words("run", *options(train_list=train_list, diff_file=differences))
            data = tool.build_config(tool.parse_options(given)).data
            assert data.train_list == str(root / "list/train_gt.txt")
            assert data.diff_file == str(root / "list/differences.npz")


def test_defaults_are_those_of_the_prototype(tool, capsys):
    given = tool.parse_options(["--checkpoint", "clrernet.pth"])
    assert (given.epochs, given.batch_size, given.num_points, given.nbins_x) == (5, 4, 40, 800)
    with pytest.raises(SystemExit) as ended:
        tool.parse_options(["--help"])
    assert ended.value.code == 0
    help_text = capsys.readouterr().out
    files = ("config", "checkpoint", "data_root", "train_list", "diff_file", "work_dir")
    names = (*files, *NETWORK, "epochs", "batch_size", "num_workers", "device", "lr", "plain")
    assert all(f"--{name.replace('_', '-')}" in help_text for name in names)


def test_existing_weights_are_not_replaced(tool, tmp_path, capsys):
    theirs = tmp_path / "lanelm_culane_dla34_epoch2.pth"
    theirs.write_text("precious")
    assert tool.main(words(tmp_path, *options(epochs=2, device="cpu"))) == 2
    assert f"error: {theirs}: would be overwritten; choose another work directory" in capsys.readouterr().err
    assert theirs.read_text() == "precious"
