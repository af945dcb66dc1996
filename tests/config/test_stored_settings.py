"""Settings in an untrusted file: they are bounded, and set no path."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from clrernetlm import UserError
from clrernetlm.config import Config, load_config, to_dict
from clrernetlm.config.stored_settings import config_of_file, plain_name
from clrernetlm.config.validation import RULES, validate
from clrernetlm.training.train import work_directory
from clrernetlm.weights.resolve import find_model, stored_config
from clrernetlm.weights.safetensors_file import KEY


def changed(tree: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    *groups, leaf = name.split(".")
    branch = tree
    for group in groups:
        branch = branch[group]
    branch[leaf] = value
    return tree


def packed(path: Path, tree: dict[str, Any]) -> Path:
    about = json.dumps({"format": 1, "clrernetlm_version": "0", "config": tree})
    save_file({"x": torch.ones(2)}, path, metadata={KEY: about})
    return path


def checkpoint(path: Path, tree: dict[str, Any]) -> Path:
    torch.save({"state_dict": {"x": torch.ones(2)}, "config": tree}, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        find_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("write", [packed, checkpoint])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.head.num_priors", 10**9),
        ("model.head.num_points", 10**9),
        ("model.head.fc_layers", 10**9),
        ("model.head.feature_channels", 10**9),
        ("model.head.attention_size", [10**9, 1]),
        ("model.viewport.width", 10**9),
        ("lanelm.network.num_layers", 10**9),
        ("lanelm.network.nbins_x", 10**9),
        ("lanelm.network.embed_dim", 10**9),
        ("lanelm.network.fovea_dim", 10**9),
        ("lanelm.network.fovea_layers", 10**9),
        ("lanelm.decode.refinement_rounds", 10**9),
        ("lanelm.decode.fovea_rounds", 10**9),
        ("lanelm.decode.click_sigma", 0.0),
        ("evaluation.image_size", [10**9, 10**9]),
        ("evaluation.thresholds", [0.5] * 100_000),
        ("training.learning_rate", 10**400),
        ("training.epochs", 10**4000),
        ("name", "x" * 100_000),
        ("model.backbone.name", "x" * 100_000),
        ("x" * 100_000, 1),
        ("model", [[[["x" * 1000] * 10] * 10] * 10]),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_absurd_sizes_are_refused(write, name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / ("a.safetensors" if write is packed else "a.ckpt")
    write(path, changed(to_dict(Config()), name, value))
    if name == "name":  # shortened
        assert len(find_model(path)[0].name) == 100
    else:
        assert name[:30].removeprefix("model.").removesuffix(".width") in refusal(path)


@pytest.mark.parametrize(
    "settings",
    [
        {"model.head.feature_channels": 4096, "model.head.sample_points": 1000},
        {"model.head.num_priors": 10_000, "model.head.attention_size": [256, 256]},
        {"lanelm.network.embed_dim": 8192, "lanelm.network.num_layers": 64},
        {"lanelm.network.embed_dim": 8192, "lanelm.network.nbins_x": 65_536},
        {"lanelm.network.fovea": True, "lanelm.network.fovea_dim": 2048, "lanelm.network.fovea_layers": 64},
    ],
)
def test_sizes_with_too_large_a_product_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    tree = to_dict(Config())
    for name, value in settings.items():
        changed(tree, name, value)
    message = refusal(packed(tmp_path / "a.safetensors", tree))
    assert all(name.rpartition(".")[2] in message for name in settings)


def test_every_count_has_an_upper_bound() -> None:
    names = {"training.seed"}  # a number to begin from, no count
    for name, rule in RULES.items():
        if rule.wording.endswith(" or more") and name not in names:
            assert isinstance(config_value(name), float), name


def config_value(name: str) -> Any:
    value: Any = Config()
    for part in name.split("."):
        value = getattr(value, part)
    return value


def test_project_configs_are_within_the_bounds() -> None:
    for config in ("clrernet_culane_dla34", "clrernet_culane_resnet50", "lanelm_512_dla34", "roads_lanelm"):
        validate(load_config(config))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("../../escaped/evil", "_.._escaped_evil"),
        ("/etc/evil", "_etc_evil"),
        ("..", ""),
        ("C:\\evil", "C_evil"),
        ("a\x1b]0;b\n", "a_0_b_"),
        (".bashrc", "bashrc"),
        ("clrernet_culane-dla34 (2)", "clrernet_culane-dla34 _2_"),
        ("Straße_道路", "Straße_道路"),
    ],
)
def test_a_stored_name_contains_no_folder(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_stored_paths_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tree = to_dict(Config(name="../../escaped/evil"))
    for name in ("training.work_dir", "training.init_from", "lanelm.cache", "lanelm.detector", "data.root"):
        changed(tree, name, str(tmp_path / "escaped"))
    for path in (packed(tmp_path / "a.safetensors", tree), checkpoint(tmp_path / "a.ckpt", tree)):
        config, _ = find_model(path)
        assert stored_config(path).name == config.name == "_.._escaped_evil"
        assert work_directory(config) == Path("work_dirs/_.._escaped_evil")
        defaults = Config()
        assert (config.training, config.data, config.lanelm) == (defaults.training, defaults.data, defaults.lanelm)


def test_recursively_repeated_settings_are_refused(tmp_path: Path) -> None:
    laughs: Any = ["ha"] * 10
    for _ in range(30):
        laughs = [laughs] * 10
    assert "not a checkpoint" in refusal(checkpoint(tmp_path / "a.ckpt", {"name": laughs}))
    for _ in range(5):
        with pytest.raises(UserError) as caught:
            config_of_file({"name": laughs}, "x")
        assert len(str(caught.value)) < 1000
