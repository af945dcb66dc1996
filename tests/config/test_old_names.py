"""Settings under the names of earlier versions load, with a warning that gives the new name."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from clrernetlm import UserError
from clrernetlm.config import Config, LaneLMTrainingRequestsConfig, TrainingConfig, from_dict, load_config, to_dict
from clrernetlm.config.loading import project_configs
from clrernetlm.config.old_names import RENAMED, current_name
from clrernetlm.config.serialization import get_setting, setting_types
from clrernetlm.weights.build_models import changed_setting
from clrernetlm.weights.resolve import stored_config
from clrernetlm.weights.safetensors_file import KEY

# Every renamed setting with a value that is not its default; groups are renamed with their members.
VALUES: dict[str, Any] = {
    "evaluation.semantics": "official",
    "lanelm.decode.detector_share": 0.25,
    "lanelm.decode.rounds": 2,
    "lanelm.kind": "plain",
    "lanelm.lessons.invented": 4,
    "lanelm.lessons.question_noise": 0.5,
    "lanelm.lessons.unasked": 5,
    "lanelm.network.question_stride": 3,
    "lanelm.network.sees_past": False,
    "lanelm.views": 7,
    "model.assigner.rescue_unmatched": True,
    "training.backbone_rate": 0.5,
    "training.start_from": "mine.pth",
}
OTHERS = {"lanelm.lessons.proposals": 9}  # not renamed itself


def nested(settings: dict[str, Any]) -> dict[str, Any]:
    """{dotted name: value} -> nested dicts."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *groups, leaf = name.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[leaf] = value
    return tree


OLD_TREE = nested(VALUES | OTHERS)
NEW = {current_name(name): value for name, value in (VALUES | OTHERS).items()}


def test_every_old_name_leads_to_a_setting() -> None:
    assert VALUES.keys() == RENAMED.keys() - {"lanelm.lessons"}
    assert RENAMED.keys().isdisjoint(setting_types())
    assert NEW.keys() <= setting_types().keys()
    assert current_name("lanelm.lessons") == "lanelm.training_requests"
    assert current_name("lanelm.kinds") == "lanelm.kinds"


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("spelling", ["--{}={}", "{}={}"])
def test_an_old_name_on_the_command_line_warns_with_the_new_name(name: str, spelling: str) -> None:
    word = spelling.format(name.replace("_", "-") if spelling.startswith("--") else name, VALUES[name])
    with pytest.warns(UserWarning, match=f"^{re.escape(name)}: old name; use {re.escape(current_name(name))}$"):
        config = load_config("lanelm_512_dla34", [word])
    assert get_setting(config, current_name(name)) == VALUES[name]


@pytest.mark.parametrize("name", VALUES)
def test_an_old_name_in_a_config_file_warns_with_the_new_name(name: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from clrernetlm.config import load_config\n"
        f"config = load_config('lanelm_512_dla34')\nconfig.{name} = {VALUES[name]!r}\n"
        f"assert config.{name} == {VALUES[name]!r}\n"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(name)}: old name; use {re.escape(current_name(name))}$"):
        config = load_config(file)
    assert get_setting(config, current_name(name)) == VALUES[name]


def test_constructors_and_classes_take_old_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from clrernetlm.config import Config, LaneLMConfig, LaneLMLessonConfig, TrainingConfig\n"
        "lessons = LaneLMLessonConfig(proposals=9, invented=4)\n"
        "config = Config(lanelm=LaneLMConfig('plain', lessons=lessons), training=TrainingConfig(start_from='a'))\n"
    )
    with pytest.warns(UserWarning, match="old name") as told:
        config = load_config(file)
    assert config.lanelm.training_requests == LaneLMTrainingRequestsConfig(proposals=9, synthetic_proposals=4)
    assert (config.lanelm.variant, config.training.init_from) == ("plain", "a")
    # `import` looks a name up twice; Python shows a warning once.
    assert list(dict.fromkeys(str(warning.message) for warning in told)) == [
        "clrernetlm.config.LaneLMLessonConfig: old name; use LaneLMTrainingRequestsConfig",
        "lanelm.lessons.invented: old name; use lanelm.training_requests.synthetic_proposals",
        "lanelm.lessons: old name; use lanelm.training_requests",
        "training.start_from: old name; use training.init_from",
    ]


def test_the_old_and_the_new_name_together_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^start_from: the old name of init_from, which is given too"):
        TrainingConfig(init_from="a", start_from="b")  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"^training\.start_from: no such setting"):
        from_dict({"training": {"start_from": "a", "init_from": "b"}})


@pytest.mark.parametrize("packed", [True, False])
def test_stored_settings_are_converted_without_a_warning(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("model.safetensors" if packed else "model.pth")
    if packed:
        about = json.dumps({"format": 1, "clrernetlm_version": "0", "config": OLD_TREE})
        save_file({"x": torch.ones(2)}, path, metadata={KEY: about})
    else:
        torch.save({"state_dict": {"x": torch.ones(2)}, "config": OLD_TREE}, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = stored_config(path)
    assert config is not None
    expected = NEW | {"training.init_from": None}  # a path of the training machine
    assert {name: get_setting(config, name) for name in NEW} == expected


def test_weights_are_compared_with_the_settings_under_old_names() -> None:
    config = from_dict(OLD_TREE)
    assert changed_setting(config, OLD_TREE) is None
    assert changed_setting(config, to_dict(config)) is None
    told = changed_setting(Config(), {"lanelm": {"network": {"sees_past": False}}})
    assert told is not None
    assert told.startswith("trained with lanelm.network.autoregressive=False")


def test_deeply_nested_untrusted_settings_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"lanelm": deep}
    with pytest.raises(UserError, match=r"lanelm\.lanelm: no such setting"):
        from_dict(deep)


@pytest.mark.parametrize("name", project_configs())
def test_project_configs_use_only_new_names(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_config(name)
