"""Settings given as words: `--training.learning-rate 1e-4`, `--training.epochs=3`, `training.epochs=3`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from clrernetlm.config.old_names import current_name, warn_of_old_name
from clrernetlm.config.schema import Config
from clrernetlm.config.serialization import decode, describe, from_dict, setting_types, to_dict
from clrernetlm.config.suggestions import did_you_mean
from clrernetlm.config.text_values import value_from_text, without_none
from clrernetlm.core.errors import UserError

ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z]\w*(\.[\w-]+)+)=(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True)
class _Override:
    name: str  # dotted
    values: tuple[str, ...]
    words: tuple[str, ...]  # as given


def apply_overrides(config: Config, words: Sequence[str]) -> Config:
    """A new Config with the settings in `words` replaced; the last one wins.

    Raises UserError for a word that is no setting (with the closest name) and for a value of a wrong type.
    """
    tree = to_dict(config)
    for item in _scan(words):
        if isinstance(item, str):
            raise unknown_setting(item.partition("=")[0])
        *groups, leaf = item.name.split(".")
        branch = tree
        for group in groups:
            branch = branch[group]
        branch[leaf] = parse_value(item.name, item.values)
    return from_dict(tree)


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of a command line -> (words for `apply_overrides`, all others), order kept.

    A setting is an option with a dot in its name, or `name=value`. It takes as many words as its type has values, so
    other options and positional words may stand before and after it. Raises UserError for unknown settings.
    """
    overrides: list[str] = []
    others: list[str] = []
    for item in _scan(words):
        if isinstance(item, str):
            others.append(item)
        else:
            overrides += item.words
    return overrides, others


def _scan(words: Sequence[str]) -> Iterator[_Override | str]:
    known = setting_types()
    position = 0
    while position < len(words):
        word = words[position]
        option, equals, value = word.partition("=")
        count = 0
        if ASSIGNMENT.fullmatch(word) or (_is_setting(option, known) and equals):
            yield _Override(find_setting(option), (value,), (word,))
        elif _is_setting(option, known):
            name = find_setting(option)
            count = _count_values(known[name], words[position + 1 :])
            values = tuple(words[position + 1 : position + 1 + count])
            yield _Override(name, values, (word, *values))
        else:
            yield word
        position += 1 + count


def find_setting(word: str) -> str:
    """Convert `--training.learning-rate` to `training.learning_rate`; raises UserError with the closest name.

    An old name is converted to today's, with a warning.
    """
    known = setting_types()
    given = word.removeprefix("--").replace("-", "_")
    name = current_name(given)
    if name in known:
        if name != given:
            warn_of_old_name(given, name)
        return name
    inside = [other for other in known if other.startswith(name + ".")]
    if inside:
        raise UserError(f"{word}: a group of settings, not one; for example {inside[0]}")
    raise unknown_setting(word)


def unknown_setting(word: str) -> UserError:
    """The error for `word`, with the closest setting."""
    hint = did_you_mean(word.removeprefix("--"), setting_types())
    return UserError(f"{word}: no such setting{hint or '; `clrernetlm config CONFIG` lists all of them'}")


def parse_value(name: str, values: Sequence[str]) -> Any:
    """Convert words to the value of setting `name`; raises UserError that says what was expected."""
    annotation = setting_types()[name]
    words = [_python_spelling(word, annotation) for word in _separate(values, annotation)]
    if not values and Ellipsis not in get_args(annotation):
        raise UserError(f"{name}: a value is missing; expected {describe(annotation)}")
    try:
        value = value_from_text(annotation, words)
    except ValueError:
        given = " ".join(values)
        choices = [str(choice) for choice in get_args(annotation) if isinstance(choice, str)]
        raise UserError(f"{name}: '{given}' is not {describe(annotation)}{did_you_mean(given, choices)}") from None
    return decode(annotation, value, name)


def _is_setting(option: str, known: Mapping[str, Any]) -> bool:
    if not option.startswith("--"):
        return False
    name = option.removeprefix("--").replace("-", "_")
    return "." in name or name in known


def _count_values(annotation: Any, following: Sequence[str]) -> int:
    """How many of the `following` words belong to a setting of this type."""
    annotation = without_none(annotation)
    if get_origin(annotation) is not tuple:
        limit = 1
    elif following and ("," in following[0] or following[0].lower() == "none"):
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
    if get_origin(without_none(annotation)) is tuple and len(values) == 1 and re.search(r"[,()\[\]]", values[0]):
        return [part.strip() for part in values[0].strip(" ()[]").split(",") if part.strip()]
    return list(values)


def _python_spelling(word: str, annotation: Any) -> str:
    """`none`, `true`, `false` in any case are None, True, False where the type has them."""
    choices = ["True", "False"] if annotation is bool else ["None"] if type(None) in get_args(annotation) else []
    return next((choice for choice in choices if choice.lower() == word.lower()), word)
