"""Models by name: bundled models, downloads, and errors about missing ones."""

import pickle
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from clrernetlm import Predictor, UserError
from clrernetlm.cli import main
from clrernetlm.config import Config, load_config
from clrernetlm.config.python_source import to_source
from clrernetlm.core.files import sha256
from clrernetlm.deploy.export import export_model
from clrernetlm.deploy.load_model import load_model
from clrernetlm.weights import registry
from clrernetlm.weights import resolve as finding
from clrernetlm.weights.build_models import init_detector, init_lanelm, init_lanelm_detector, save_lanelm
from clrernetlm.weights.checkpoint import save_official
from clrernetlm.weights.listing import state
from clrernetlm.weights.pack import pack_weights
from clrernetlm.weights.registry import BUNDLED, DEFAULT, FOLDER, REMOTE, model_cards
from clrernetlm.weights.resolve import find_model, stored_config
from tests.helpers.small_lanelm import small_lanelm_config, write_detector

LIMIT = 25e6  # bytes of all shipped files together


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack a small LaneLM and its detector, of random weights, like a bundled model."""
    folder = tmp_path_factory.mktemp("packed")
    config = small_lanelm_config(folder, folder, write_detector(folder / "detector.pth"))
    config.model.decode.conf_threshold = 0.2
    save_lanelm(init_lanelm(config, "random"), folder / "lanelm.pth")
    return pack_weights(str(folder / "lanelm.pth"), str(folder / "roads.safetensors"))


@pytest.fixture
def shipped(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the registry point to that file as the bundled model."""
    monkeypatch.setattr(registry, "FOLDER", packed.parent)
    return packed


@pytest.fixture
def nothing_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    monkeypatch.setenv("CLRERNETLM_CACHE", str(tmp_path / "cache"))


def refusal(*arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        find_model(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bundled_weights_match_the_registry_and_are_small() -> None:
    assert DEFAULT in BUNDLED
    files = {model.path for model in BUNDLED.values() if model.path.is_file()}
    assert sum(file.stat().st_size for file in files) <= LIMIT
    assert files == set(FOLDER.glob("*.safetensors"))
    for model in BUNDLED.values():
        assert f"`{model.name}`" in model_cards().read_text()
        if model.path.is_file():
            assert model.sha256 in (None, sha256(model.path))
            assert Predictor(model.name).config.task in ("clrernet", "lanelm")


def test_the_default_model_needs_no_argument(shipped: Path) -> None:
    predictor = Predictor()
    assert (predictor.config.name, predictor.config.task) == ("roads", "lanelm")
    assert Predictor("roads").config == predictor.config
    alone = Predictor("roads_detector")
    assert (alone.config.name, alone.config.task) == ("roads_detector", "clrernet")
    image = np.random.default_rng(0).integers(0, 256, (148, 410, 3), np.uint8)
    for one in (predictor, alone):
        one.set_image(image)
    assert [lane.score for lane in alone.lanes()] == [lane.score for lane in predictor.detections()]


def test_settings_can_be_changed(shipped: Path) -> None:
    config, path = find_model("roads", ["--model.decode.conf-threshold", "0.6"])
    assert config.model.decode.conf_threshold == 0.6
    assert path == str(shipped)
    assert "model.decode.conf_threshold: 7.0 is out of range" in refusal("roads", ["model.decode.conf_threshold=7"])


@pytest.mark.usefixtures("nothing_shipped")
def test_an_error_about_missing_weights_names_the_download_command(tmp_path: Path) -> None:
    assert refusal("roads").startswith(f"roads: {tmp_path / 'roads.safetensors'} is missing")
    assert "clrernetlm models get clrernet_culane_dla34" in refusal("clrernet_culane_dla34")
    assert refusal("road") == "road: no such model; did you mean roads?"
    assert "use a weights file or one of roads, " in refusal("zzz")
    assert "no such checkpoint" in refusal(str(tmp_path / "mine.safetensors"))
    with pytest.raises(UserError, match="is missing"):
        Predictor()


@pytest.mark.usefixtures("nothing_shipped")
def test_a_released_checkpoint_uses_the_config_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = REMOTE["clrernet_culane_dla34"]
    save_official(init_detector(released.name, "random"), released.path)
    elsewhere = tmp_path / "elsewhere" / released.file
    elsewhere.parent.mkdir()
    released.path.rename(elsewhere)
    assert find_model(str(elsewhere)) == (load_config(released.name), str(elsewhere))
    elsewhere.rename(released.path)
    for name in (released.name, released.file):
        assert find_model(name) == (load_config(released.name), str(released.path))
    elsewhere.with_name("other.pth").write_bytes(released.path.read_bytes())
    assert "weights without settings; name the config too" in refusal(str(elsewhere.with_name("other.pth")))


# Every public function resolves names in the same way.

DOORS = {
    "Predictor": Predictor,
    "init_detector": init_detector,
    "init_lanelm_detector": init_lanelm_detector,
    "load_model": load_model,
    "export_model": lambda config, checkpoint=None: export_model(config, checkpoint, out="unused.onnx"),
}


def refused_by(door: str, *arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        DOORS[door](*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("door", DOORS)
def test_no_function_uses_random_weights_unless_requested(
    door: str, nothing_shipped: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from clrernetlm.config import Config\nconfig = Config()\n")
    get = "clrernet_culane_dla34: not on this machine; get it with `clrernetlm models get clrernet_culane_dla34`"
    assert refused_by(door, "clrernet_culane_dla34") == get
    assert refused_by(door, load_config("clrernet_culane_dla34"), "clrernet_culane_dla34") == get
    for config in ("mine.py", tmp_path / "mine.py", Config(), "clrernet_culane_resnet18"):
        message = refused_by(door, config)
        assert message.startswith("checkpoint: missing; ")
        assert '"random"' in message
    assert refused_by(door, "road") == "road: no such model; did you mean roads?"
    assert refused_by(door, "roads").startswith("roads: ")
    assert "checkpoint: random weights need a config" in refused_by(door, None, "random")
    assert "roads: a model with weights of its own" in refused_by(door, "roads", "mine.pth")


@pytest.mark.usefixtures("nothing_shipped")
def test_downloaded_weights_are_found_by_name_in_every_function(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = stored_config(packed)
    assert small is not None
    small.task = "clrernet"
    released = REMOTE["clrernet_culane_dla34"]
    monkeypatch.setattr(finding, "_remote_config", lambda _: deepcopy(small))
    model = init_detector(small, packed)
    save_official(model, released.path)
    for found in (init_detector("clrernet_culane_dla34"), init_detector(small, released.file)):
        assert torch.equal(found.backbone.state_dict()["model.level0.0.weight"], model.backbone.model.level0[0].weight)  # type: ignore[union-attr]
    expected = logits(Predictor(small, packed))
    for predictor in (Predictor("clrernet_culane_dla34"), Predictor(small, "clrernet_culane_dla34")):
        assert torch.equal(logits(predictor), expected)


def logits(predictor: Predictor) -> torch.Tensor:
    """Return the network's logits for a fixed image."""
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (148, 410, 3), np.uint8))
    assert predictor._state is not None
    return predictor._state.batch.output.predictions["cls_logits"]


def test_random_weights_are_requested_by_name(packed: Path) -> None:
    config = stored_config(packed)
    assert config is not None
    config.task = "clrernet"
    one, other = Predictor(config, "random"), Predictor(config, "random")
    assert not torch.equal(logits(one), logits(other))
    assert torch.equal(logits(pickle.loads(pickle.dumps(one))), logits(one))


def test_speed_prints_that_weights_are_random(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = stored_config(packed)
    assert config is not None
    (tmp_path / "mine.py").write_text(to_source(config))
    words = ["--iterations", "1", "--device", "cpu"]
    assert main(["speed", str(tmp_path / "mine.py"), *words]) == 0
    assert "random weights" in capsys.readouterr().out
    assert main(["speed", str(packed), *words]) == 0
    assert "random weights" not in capsys.readouterr().out


def test_damaged_weights_are_detected(shipped: Path, tmp_path: Path) -> None:
    model = replace(BUNDLED["roads"], sha256=sha256(shipped))
    assert state(model) == "yes"
    assert state(replace(model, sha256="0" * 64)) == "damaged"
    assert state(replace(model, file="absent.safetensors")) == "no"


def test_models_lists_all_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in (*BUNDLED, *REMOTE))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["get", "roads"], "roads: ships with clrernetlm"),
        (["get", "clrernet_culane_dla43"], "did you mean clrernet_culane_dla34"),
        (["get"], "models: get: not understood"),
        (["list", "all"], "models: list all: not understood"),
    ],
)
def test_wrong_arguments_of_models_are_one_line(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *words]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1


def test_importing_and_listing_use_no_network() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from clrernetlm.cli import main\n"
        "import clrernetlm.inference.predictor, clrernetlm.weights.resolve\n"
        "sys.exit(main(['models']))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# On the command line: which arguments are the model, which are inputs.


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (148, 410, 3), np.uint8))
    return str(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_detect_needs_nothing_but_a_photo(shipped: Path, photo: str, here: Path) -> None:
    assert main(["detect", photo]) == 0
    names = {path.name for path in (here / "lanes").iterdir() if not path.name.startswith(".")}
    assert names == {"photo.jpg", "photo.lines.txt", "lanes.json"}


def test_detect_takes_names_files_and_settings(shipped: Path, photo: str, here: Path) -> None:
    for number, model in enumerate((["--model", "roads_detector"], ["--model", str(shipped)], ["--conf", "0.1"])):
        words = ["detect", *model, photo, "--out", f"out{number}", "--model.viewport.top", "0.4", "--device", "cpu"]
        assert main(words) == 0
        assert (here / f"out{number}" / "lanes.json").exists()


def test_detect_still_takes_a_config_and_a_checkpoint(
    packed: Path, photo: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.py").write_text(
        "from clrernetlm.config import from_dict\n"
        "from clrernetlm.weights.safetensors_file import read_settings\n"
        f"config = from_dict(read_settings({str(packed)!r}))\n"
    )
    (here / "mine").mkdir()  # a folder of the same name is no input here
    for config in ("mine.py", "mine"):
        assert main(["detect", config, str(packed), photo, "--out", "out"]) == 0
    capsys.readouterr()
    assert (here / "out" / "photo.jpg").exists()
    (here / "weights").write_bytes(b"no suffix, but read as a checkpoint")
    assert "weights: not a checkpoint" in error_of(["detect", "mine.py", "weights", photo], capsys)


@pytest.mark.usefixtures("here")
def test_misplaced_arguments_of_detect_are_one_line(
    shipped: Path, photo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = "clrernet_culane_dla34"
    for words, expected in (
        ([], "detect: INPUT missing"),
        (["--model", "roads"], "input: none given"),
        (["nowhere.jpg"], "nowhere.jpg: no such file"),
        (["nowhere.mp4"], "nowhere.mp4: no such file"),
        (["nowhere/folder"], "nowhere/folder: no such image, folder, video or config"),
        (["roads", photo], "roads: a model, not an input; use --model roads"),
        ([config], f"{config}: a config needs its checkpoint"),
        ([config, photo], f"{config}: a config needs its checkpoint"),
        ([config, "0", photo], f"{config}: a config needs its checkpoint"),
        ([config, "w.pth"], "input: none given"),
        ([config, "w.pth", photo], "w.pth: no such checkpoint"),
        (["clrernet_culane_dla35", "w.pth", photo], "did you mean clrernet_culane_dla34"),
        (["w.pth", config, photo], "w.pth: weights come after their config"),
        ([photo, "--model", "rods"], "rods: no such model; did you mean roads?"),
        ([photo, "--model", "nowhere.safetensors"], "nowhere.safetensors: no such checkpoint"),
    ):
        assert expected in error_of(["detect", *words], capsys)


@pytest.mark.usefixtures("nothing_shipped", "here")
def test_detect_without_bundled_weights_is_one_line(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "came without weights; install the released package again" in error_of(["detect", photo], capsys)


def test_speed_times_a_bundled_model(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "speed",
        "roads",
        "--iterations",
        "1",
        "--device",
        "cpu",
        "--batch",
        "1",
        "2",
        "--precision",
        "fp32",
        "bf16",
    ]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "roads: image to lanes" in table
    assert [table.count(word) for word in ("included", "apart", "fp32", "bf16")] == [4, 4, 4, 4]


def test_test_accepts_a_bundled_model(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path) in error_of(["test", "roads", "--data.root", str(tmp_path)], capsys)


def test_downloaded_weights_run_no_config_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "clrernet_culane_dla34"
    (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()")
    write_detector(tmp_path / f"{name}.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLRERNETLM_CACHE", str(tmp_path))
    for given in (f"{name}.pth", name):
        config, path = find_model(given)
        assert (config.name, Path(path).name) == (name, f"{name}.pth")
    assert not (tmp_path / "executed").exists()
