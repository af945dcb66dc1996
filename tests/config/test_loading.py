from pathlib import Path

import pytest

from clrernetlm.config import Config, load_config
from clrernetlm.config.loading import config_folder
from clrernetlm.core.errors import UserError

NAMES = sorted(path.stem for path in config_folder().rglob("*.py"))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def message(*arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        load_config(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_config_of_the_project_loads(name: str) -> None:
    assert load_config(name).name == name


def test_the_culane_config_is_the_published_recipe() -> None:
    config = load_config("clrernet_culane_dla34")
    assert (config.training.epochs, config.training.learning_rate, config.data.batch_size) == (15, 6e-4, 24)
    assert (config.model.decode.conf_threshold, config.training.ema_momentum) == (0.41, None)
    assert config.model.backbone.pretrained
    assert config.model.viewport.crop_box((1640, 590)) == (0, 270, 1640, 590)


def test_the_ema_config_differs_in_three_settings() -> None:
    config = load_config("clrernet_culane_dla34_ema")
    assert (config.training.epochs, config.training.ema_momentum) == (50, 1e-4)
    assert config.model.decode.conf_threshold == 0.43
    plain = load_config("clrernet_culane_dla34")
    config.training, config.model.decode, config.name = plain.training, plain.model.decode, plain.name
    assert config == plain


@pytest.mark.parametrize(
    "spelling",
    [
        "clrernet_culane_dla34",
        "clrernet_culane_dla34.py",
        "clrernet/culane/clrernet_culane_dla34",
        "configs/clrernet/culane/clrernet_culane_dla34.py",
    ],
)
def test_config_names_work_from_any_folder(spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(spelling).name == "clrernet_culane_dla34"


def test_a_file_in_the_working_directory_takes_precedence_over_project_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path / "clrernet_culane_dla34.py",
        "from clrernetlm.config import Config, TrainingConfig\nconfig = Config(training=TrainingConfig(epochs=2))",
    )
    monkeypatch.chdir(tmp_path)
    assert load_config("clrernet_culane_dla34").training.epochs == 2


def test_a_config_loads_files_beside_it_and_keeps_its_own_name(tmp_path: Path) -> None:
    write(
        tmp_path / "base" / "a.py",
        "from clrernetlm.config import load_config\n"
        "config = load_config('clrernet_culane_dla34')\nconfig.training.epochs = 3\nconfig.data.root = 'here'",
    )
    b = write(
        tmp_path / "b.py",
        "from clrernetlm.config import load_config\nconfig = load_config('base/a')\nconfig.training.epochs = 4",
    )
    config = load_config(b)
    assert (config.training.epochs, config.data.root, config.name) == (4, "here", "b")


def test_overrides_are_applied_last(tmp_path: Path) -> None:
    assert load_config("clrernet_culane_dla34", ["training.epochs=4", "--training.epochs", "5"]).training.epochs == 5


def test_loaded_configs_share_no_objects() -> None:
    first = load_config("clrernet_culane_dla34")
    first.model.head.num_points = 5
    assert load_config("clrernet_culane_dla34").model.head.num_points == 72


def test_an_unknown_name_suggests_similar_ones() -> None:
    assert "did you mean clrernet_culane_dla34" in message("clrernet_culane_dla3")
    assert "clrernet_culane_dla34" in message("zzz")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert "a config is a Python file" in message(write(tmp_path / "weights.pth", ""))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import os\n1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("x = 3", "defines no `config`"),
        ("config = dict(a=1)", "`config` is a dict, not a Config"),
        ("config = Config(", "line 1: not valid Python"),
        ("from clrernetlm.config import Confg", "line 1: ImportError"),
        (
            "from clrernetlm.config import Config, TrainingConfig\nconfig = Config(training=TrainingConfig(epoch=3))",
            "line 2: TypeError: TrainingConfig.__init__() got an unexpected keyword argument 'epoch'; "
            "did you mean epochs?",
        ),
        (
            "from clrernetlm.config import Config\nconfig = Config()\nconfig.training.lr = 3",
            "line 3: AttributeError: 'TrainingConfig' object has no attribute 'lr'; did you mean learning_rate?",
        ),
        (
            "from clrernetlm.config import Config\nconfig = Config()\nconfig.training.epochs = '3'",
            "training.epochs: '3' is not an int",
        ),
        (
            "from clrernetlm.config import Config\nconfig = Config()\nconfig.training.epochs = 0",
            "training.epochs: 0 is out of range",
        ),
        ("from clrernetlm.config import load_config\n\nload_config('gone.py')", "line 3: gone.py: no such"),
        ("raise SystemExit(1)", "line 1: SystemExit: 1"),
    ],
)
def test_errors_in_config_files_name_file_and_line(text: str, expected: str, tmp_path: Path) -> None:
    path = write(tmp_path / "broken.py", text)
    found = message(path)
    assert expected in found
    if "out of range" not in expected:
        assert str(path) in found


def test_configs_that_load_each_other_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "c.py", "from clrernetlm.config import load_config\nconfig = load_config('c.py')")
    assert "builds on itself" in message(path)


def test_lists_become_tuples_and_integers_become_floats(tmp_path: Path) -> None:
    path = write(
        tmp_path / "lists.py",
        "from clrernetlm.config import Config\nconfig = Config()\nconfig.evaluation.image_size = [1280, 720]\n"
        "config.training.learning_rate = 1",
    )
    config = load_config(path)
    assert config.evaluation.image_size == (1280, 720)
    assert isinstance(config.training.learning_rate, float)


def test_the_default_config_is_valid(tmp_path: Path) -> None:
    path = write(tmp_path / "plain.py", "from clrernetlm.config import Config\nconfig = Config()")
    assert load_config(path) == Config(name="plain")
