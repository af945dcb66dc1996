import json
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clrernetlm.config import Config, from_dict, load_config, to_dict
from clrernetlm.config.python_source import to_source
from clrernetlm.config.serialization import flatten, setting_types
from clrernetlm.core.errors import UserError


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Any value of a setting's type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        items = values(arguments[0])
        return st.lists(items, max_size=4) if Ellipsis in arguments else st.tuples(*[items] * len(arguments))
    if arguments:
        return st.one_of(*map(values, arguments))
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    return {bool: st.booleans(), int: st.integers(), float: numbers, str: st.text(), type(None): st.none()}[annotation]


# The viewport checks itself; its values are tested with it.
FREE = {name: annotation for name, annotation in setting_types().items() if ".viewport." not in name}


def with_settings(chosen: dict[str, Any]) -> Config:
    tree = to_dict(Config())
    for name, value in chosen.items():
        *groups, leaf = name.split(".")
        branch = tree
        for group in groups:
            branch = branch[group]
        branch[leaf] = value
    return from_dict(tree)


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries({}, optional={name: values(annotation) for name, annotation in FREE.items()}))
def test_round_trip_through_json(chosen: dict[str, Any]) -> None:
    config = with_settings(chosen)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    for name, value in chosen.items():
        assert flatten(config)[name] == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("name", ["clrernet_culane_dla34_ema", "demo_efficientnet_lite0"])
def test_round_trip_through_a_config_file(name: str, tmp_path: Any) -> None:
    config = load_config(name)
    path = tmp_path / "saved.py"
    path.write_text(to_source(config), encoding="utf-8")
    assert load_config(path) == config


def test_serialized_settings_are_plain_values() -> None:
    def kinds(value: Any) -> set[type]:
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            return {type(value)}.union(*map(kinds, inner))
        return {type(value)}

    assert kinds(to_dict(Config())) <= {dict, list, str, int, float, bool, type(None)}


def test_settings_missing_in_older_files_take_their_defaults() -> None:
    assert from_dict({"training": {"epochs": 3}, "model": {"viewport": {"width": 640}}}).training.epochs == 3
    assert from_dict({}) == Config()


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"training": {"epoch": 3}}, "old.ckpt: training.epoch: no such setting; did you mean training.epochs?"),
        ({"trainin": {}}, "old.ckpt: trainin: no such setting; did you mean training?"),
        ({"training": {"epochs": "3"}}, "training.epochs: '3' is not an int"),
        ({"training": {"epochs": True}}, "training.epochs: True is not an int"),
        ({"training": {"epochs": None}}, "training.epochs: None is not an int"),
        ({"training": {"deterministic": 1}}, "training.deterministic: 1 is not True or False"),
        ({"training": {"precision": "8"}}, "is not one of 32-true, 16-mixed, bf16-mixed"),
        ({"model": {"head": {"attention_size": [1]}}}, "model.head.attention_size: [1] is not 2 ints"),
        ({"model": {"viewport": {"top": "a"}}}, "model.viewport.top: 'a' is not a number"),
        ({"model": 3}, "model: 3 is not a group of settings"),
        ({"data": {"root": None}}, "data.root: None is not a text"),
    ],
)
def test_errors_name_file_and_setting(tree: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        from_dict(tree, "old.ckpt")
    assert expected in str(caught.value)


def test_assigning_an_unknown_setting_fails() -> None:
    with pytest.raises(AttributeError):
        Config().training.lr = 3  # type: ignore[attr-defined]
