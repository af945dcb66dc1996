"""Settings given as words: `--training.learning-rate 1e-4`, `--training.epochs=3`, `training.epochs=3`."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any, get_args, get_origin

import tyro

from clrernetlm.config.schema import Config
from clrernetlm.config.serialization import decode, describe, from_dict, setting_types, to_dict
from clrernetlm.config.suggestions import did_you_mean
from clrernetlm.errors import UserError

ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z]\w*(\.[\w-]+)+)=(?P<value>.*)", re.DOTALL)


def apply_overrides(config: Config, words: Sequence[str]) -> Config:
    """A new Config with the settings in `words` replaced; the last one wins.

    Raises UserError for a word that is no setting (with the closest name) and for a value of a wrong type.
    """
    settings, rest = split_overrides(words)
    for word in rest:
        find_setting(word.partition("=")[0])
    tree = to_dict(config)
    for name, values in settings:
        *groups, leaf = name.split(".")
        branch = tree
        for group in groups:
            branch = branch[group]
        branch[leaf] = parse_value(name, values)
    return from_dict(tree)


def split_overrides(words: Sequence[str]) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Words of a command line -> ([(dotted name, its values)], all other words), order kept.

    A word with a dot in its option name is a setting and takes as many words as its type has values, so options and
    positional words of a command may stand before and after it. Raises UserError for unknown settings.
    """
    known = setting_types()
    settings: list[tuple[str, list[str]]] = []
    rest: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        assignment = ASSIGNMENT.fullmatch(word)
        option, equals, value = word.partition("=")
        if assignment and not word.startswith("-"):
            settings.append((find_setting(assignment["name"]), [assignment["value"]]))
        elif not _is_setting(option, known):
            rest.append(word)
        elif equals:
            settings.append((find_setting(option), [value]))
        else:
            name = find_setting(option)
            count = _count_values(known[name], words[position:])
            settings.append((name, list(words[position : position + count])))
            position += count
    return settings, rest


def find_setting(word: str) -> str:
    """`--training.learning-rate` -> `training.learning_rate`; raises UserError with the closest name."""
    known = setting_types()
    name = word.removeprefix("--").replace("-", "_")
    if name in known:
        return name
    inside = [other for other in known if other.startswith(name + ".")]
    if inside:
        raise UserError(f"{word}: a group of settings, not one; for example {inside[0]}")
    hint = did_you_mean(name, known) or "; `clrernetlm config CONFIG` lists them, write --training.epochs 3"
    raise UserError(f"{word}: no such setting{hint}")


def parse_value(name: str, values: Sequence[str]) -> Any:
    """Words -> the value of setting `name`, by tyro; raises UserError that says what was expected."""
    annotation = setting_types()[name]
    words = [_python_spelling(word, annotation) for word in _separate(values, annotation)]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            value: Any = tyro.cli(
                annotation, args=["--", *words], config=(tyro.conf.FlagConversionOff, tyro.conf.Positional)
            )
    except SystemExit:
        given = " ".join(values)
        if not values:
            raise UserError(f"{name}: a value is missing; expected {describe(annotation)}") from None
        choices = [str(choice) for choice in get_args(annotation) if isinstance(choice, str)]
        raise UserError(f"{name}: '{given}' is not {describe(annotation)}{did_you_mean(given, choices)}") from None
    return decode(annotation, value, name)


def _is_setting(option: str, known: dict[str, Any]) -> bool:
    if not option.startswith("--"):
        return False
    name = option.removeprefix("--").replace("-", "_")
    return "." in name or name in known


def _count_values(annotation: Any, following: Sequence[str]) -> int:
    """How many of the `following` words belong to a setting of this type."""
    if get_origin(annotation) is not tuple:
        limit = 1
    elif following and "," in following[0]:
        limit = 1  # 10,25
    elif Ellipsis in get_args(annotation):
        limit = len(following)
    else:
        limit = len(get_args(annotation))
    for count, word in enumerate(following[:limit]):
        if word.startswith("--") or ASSIGNMENT.fullmatch(word):
            return count
    return min(limit, len(following))


def _separate(values: Sequence[str], annotation: Any) -> list[str]:
    """`10,25` or `(10, 25)` in one word counts as several values where several are expected."""
    if get_origin(annotation) is tuple and len(values) == 1 and re.search(r"[,()\[\]]", values[0]):
        return [part.strip() for part in values[0].strip(" ()[]").split(",") if part.strip()]
    return list(values)


def _python_spelling(word: str, annotation: Any) -> str:
    """`none`, `true`, `false` in any case are None, True, False where the type has them."""
    choices = ["True", "False"] if annotation is bool else ["None"] if type(None) in get_args(annotation) else []
    return next((choice for choice in choices if choice.lower() == word.lower()), word)
