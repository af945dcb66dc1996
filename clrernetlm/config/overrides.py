"""Parses settings of a command line: `--training.learning-rate 1e-4`, `--training.epochs=3`, `training.epochs=3`."""

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
    arguments: tuple[str, ...]  # as given


def apply_overrides(config: Config, arguments: Sequence[str]) -> Config:
    """Make a new Config with the settings in `arguments` replaced; of repeated ones the last counts.

    Raises UserError for an argument that is no setting (with the closest name) and for a value of a wrong type.
    """
    tree = to_dict(config)
    for item in _parse_arguments(arguments):
        if isinstance(item, str):
            raise unknown_setting(item.partition("=")[0])
        *groups, leaf = item.name.split(".")
        branch = tree
        for group in groups:
            branch = branch[group]
        branch[leaf] = parse_value(item.name, item.values)
    return from_dict(tree)


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments of a command line into those for `apply_overrides` and all others, in their order.

    A setting is an option with a dot in its name, or `name=value`. It takes as many arguments as its type has values,
    so that other options and positional arguments may precede and follow it. Raises UserError for unknown settings.
    """
    overrides: list[str] = []
    others: list[str] = []
    for item in _parse_arguments(arguments):
        if isinstance(item, str):
            others.append(item)
        else:
            overrides += item.arguments
    return overrides, others


def _parse_arguments(arguments: Sequence[str]) -> Iterator[_Override | str]:
    known = setting_types()
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        option, equals, value = argument.partition("=")
        count = 0
        if ASSIGNMENT.fullmatch(argument) or (_is_setting(option, known) and equals):
            yield _Override(find_setting(option), (value,), (argument,))
        elif _is_setting(option, known):
            name = find_setting(option)
            count = _count_values(known[name], arguments[position + 1 :])
            values = tuple(arguments[position + 1 : position + 1 + count])
            yield _Override(name, values, (argument, *values))
        else:
            yield argument
        position += 1 + count


def find_setting(argument: str) -> str:
    """Convert `--training.learning-rate` to `training.learning_rate`; raises UserError with the closest name.

    An old name is converted to today's, with a warning.
    """
    known = setting_types()
    given = argument.removeprefix("--").replace("-", "_")
    name = current_name(given)
    if name in known:
        if name != given:
            warn_of_old_name(given, name)
        return name
    inside = [other for other in known if other.startswith(name + ".")]
    if inside:
        raise UserError(f"{argument}: a group of settings, not one; for example {inside[0]}")
    raise unknown_setting(argument)


def unknown_setting(argument: str) -> UserError:
    """Build the error for `argument`, with the closest setting."""
    hint = did_you_mean(argument.removeprefix("--"), setting_types())
    return UserError(f"{argument}: no such setting{hint or '; `clrernetlm config CONFIG` lists all of them'}")


def parse_value(name: str, values: Sequence[str]) -> Any:
    """Convert texts to the value of setting `name`; raises UserError that names the expected type."""
    annotation = setting_types()[name]
    arguments = [_python_spelling(argument, annotation) for argument in _split_values(values, annotation)]
    if not values and Ellipsis not in get_args(annotation):
        raise UserError(f"{name}: a value is missing; expected {describe(annotation)}")
    try:
        value = value_from_text(annotation, arguments)
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
    """Count the `following` arguments that belong to a setting of this type."""
    annotation = without_none(annotation)
    if get_origin(annotation) is not tuple:
        limit = 1
    elif following and ("," in following[0] or following[0].lower() == "none"):
        limit = 1  # 10,25
    elif Ellipsis in get_args(annotation):
        limit = len(following)
    else:
        limit = len(get_args(annotation))
    for count, argument in enumerate(following[:limit]):
        if argument.startswith("--") or ASSIGNMENT.fullmatch(argument):
            return count
    return min(limit, len(following))


def _split_values(values: Sequence[str], annotation: Any) -> list[str]:
    """Split `10,25` or `(10, 25)` in one argument into values, for a setting with several values."""
    if get_origin(without_none(annotation)) is tuple and len(values) == 1 and re.search(r"[,()\[\]]", values[0]):
        return [part.strip() for part in values[0].strip(" ()[]").split(",") if part.strip()]
    return list(values)


def _python_spelling(argument: str, annotation: Any) -> str:
    """Spell `none`, `true`, `false` in any case as None, True, False, for types with these values."""
    choices = ["True", "False"] if annotation is bool else ["None"] if type(None) in get_args(annotation) else []
    return next((choice for choice in choices if choice.lower() == argument.lower()), argument)
