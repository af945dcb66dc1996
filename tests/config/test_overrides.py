from typing import Any, Literal, get_args, get_origin

import pytest

from clrernetlm.config import Config
from clrernetlm.config.overrides import apply_overrides, split_overrides
from clrernetlm.config.serialization import flatten, get_setting, setting_types
from clrernetlm.core.errors import UserError

SETTINGS = setting_types()
DEFAULTS = flatten(Config())


def other_value(annotation: Any, value: Any) -> Any:
    """A value of the type that differs from `value` and is allowed nearly everywhere."""
    if get_origin(annotation) is Literal:
        return next(choice for choice in get_args(annotation) if choice != value)
    if isinstance(value, tuple):
        optional = type(None) in get_args(annotation)
        kinds = get_args(get_args(annotation)[0] if optional else annotation)
        return tuple(other_value(kinds[0], item) for item in value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.75 + 0.03125
    kinds = get_args(annotation)
    return 0.5 if float in kinds else "other text"


def words_of(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_overridden_in_each_spelling(name: str) -> None:
    value = other_value(SETTINGS[name], get_setting(Config(), name))
    hyphens = f"--{name.replace('_', '-')}"
    commas = ",".join(words_of(value))
    spellings = [[hyphens, *words_of(value)], [f"--{name}", *words_of(value)], [f"--{name}={commas}"]]
    if "." in name:
        spellings.append([f"{name}={commas}"])
    for words in spellings:
        changed = apply_overrides(Config(), words)
        assert get_setting(changed, name) == value, words
        assert {key for key, new in flatten(changed).items() if new != DEFAULTS[key]} == {name}


def test_optional_settings_accept_none() -> None:
    config = apply_overrides(Config(), ["--data.diff-file", "none", "--training.clip-norm", "0.5"])
    assert (config.data.diff_file, config.training.clip_norm) == (None, 0.5)
    assert apply_overrides(config, ["training.clip_norm=None"]).training.clip_norm is None


@pytest.mark.parametrize("word", ["true", "True", "TRUE"])
def test_booleans_are_accepted_in_upper_and_lower_case(word: str) -> None:
    assert apply_overrides(Config(), ["--training.deterministic", word]).training.deterministic


def test_values_that_look_like_options() -> None:
    config = apply_overrides(Config(), ["--data.root=--odd", "--training.max-steps", "-1"])
    assert (config.data.root, config.training.max_steps) == ("--odd", -1)
    config = apply_overrides(Config(), ["--data.augmentation.affine-rotate", "-5", "5"])
    assert config.data.augmentation.affine_rotate == (-5.0, 5.0)


@pytest.mark.parametrize(
    ("words", "size"),
    [(["1280", "720"], (1280, 720)), (["1280,720"], (1280, 720)), (["none"], None), (["None"], None)],
)
def test_pairs_of_numbers_or_none(words: list[str], size: tuple[int, int] | None) -> None:
    given = ["--evaluation.image-size", *words, "training.epochs=3"]
    overrides, others = split_overrides(["a.jpg", *given, "b.jpg"])
    assert others == ["a.jpg", "b.jpg"]
    config = apply_overrides(Config(), overrides)
    assert (config.evaluation.image_size, config.training.epochs) == (size, 3)


def test_texts_keep_spaces_and_equal_signs() -> None:
    assert apply_overrides(Config(), ["data.root=a=b c"]).data.root == "a=b c"
    assert apply_overrides(Config(), ["--data.root", "a, (b)"]).data.root == "a, (b)"


def test_overrides_leave_the_original_config_unchanged() -> None:
    config = Config()
    apply_overrides(config, ["model.viewport.width=640"])
    assert config == Config()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--training.lr", "1"], "--training.lr: no such setting; did you mean training.learning_rate?"),
        (["training.epcohs=4"], "training.epcohs: no such setting; did you mean training.epochs?"),
        (["--learning-rate", "1"], "did you mean training.learning_rate?"),
        (["--decode.conf", "1"], "did you mean model.decode.conf_threshold?"),
        (["--data.batch", "1"], "did you mean data.batch_size?"),
        (["--training.zzzzzzzz", "1"], "`clrernetlm config CONFIG` lists all of them"),
        (["--model.head", "3"], "a group of settings, not one; for example model.head.num_priors"),
        (["--training.epochs", "abc"], "training.epochs: 'abc' is not an int"),
        (["--training.epochs", "1.5"], "training.epochs: '1.5' is not an int"),
        (["--training.learning-rate", "fast"], "training.learning_rate: 'fast' is not a number"),
        (["--training.ema-momentum", "x"], "training.ema_momentum: 'x' is not a number or None"),
        (["--training.deterministic", "maybe"], "training.deterministic: 'maybe' is not True or False"),
        (["--model.backbone.name", "dla35"], "; did you mean dla34?"),
        (["--model.head.attention-size", "10"], "model.head.attention_size: '10' is not 2 ints"),
        (["--evaluation.image-size", "1,2,3"], "evaluation.image_size: '1,2,3' is not 2 ints"),
        (["--data.batch-size"], "data.batch_size: a value is missing; expected an int"),
        (["--model.viewport.top", "2"], "viewport: left, top, right, bottom"),
        (["stray"], "stray: no such setting"),
    ],
)
def test_errors_are_one_line_and_helpful(words: list[str], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        apply_overrides(Config(), words)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_may_be_mixed_with_other_words() -> None:
    words = "a --model.head.attention-size 4 5 b.jpg training.epochs=3 --out=c.d --evaluation.thresholds .5 --x y=z"
    overrides, others = split_overrides(words.split())
    assert others == ["a", "b.jpg", "--out=c.d", "--x", "y=z"]
    config = apply_overrides(Config(), overrides)
    assert config.model.head.attention_size == (4, 5)
    assert (config.training.epochs, config.evaluation.thresholds) == (3, (0.5,))
