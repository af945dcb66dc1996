"""Converts Config to plain values and back, with the type check of every way to give a setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import MappingProxyType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from clrernetlm.config.old_names import with_current_names
from clrernetlm.config.schema import Config
from clrernetlm.config.suggestions import did_you_mean
from clrernetlm.core.argument_checks import short_repr
from clrernetlm.core.errors import UserError

T = TypeVar("T")
MOST_ITEMS = 1000  # of a setting that is a list; every image would be compared at each of them


def to_dict(config: Any) -> dict[str, Any]:
    """Convert to a nested dict of plain values (None, bool, int, float, str, list), for JSON and checkpoints."""
    return {item.name: _plain(getattr(config, item.name)) for item in fields(config)}


def from_dict(tree: dict[str, Any], source: str = "") -> Config:
    """Build a Config from nested plain values, the inverse of `to_dict`.

    `tree` may come from a file of an earlier version: settings that it lacks take their defaults, and old names of
    settings are accepted.

    Raises UserError that names the setting (after `source`, e.g. the file) when it is unknown or of a wrong type.
    """
    try:
        config: Config = decode(Config, with_current_names(tree), "")
        return config
    except UserError as error:
        raise UserError(f"{source}: {error}" if source else str(error)) from None


@cache
def setting_types() -> Mapping[str, Any]:
    """List {dotted name: type} of every setting, in the order of the schema."""
    return MappingProxyType(dict(_leaf_types(Config, "")))


def flatten(config: Config) -> dict[str, Any]:
    """List {dotted name: value} of every setting, in the order of the schema."""
    return {name: get_setting(config, name) for name in setting_types()}


def get_setting(config: Config, name: str) -> Any:
    """Return the value of a dotted name, which must exist."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def describe(annotation: Any) -> str:
    """Describe a type in words that follow "is not ": `an int`, `one of a, b`, `2 ints`, `a float or None`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join("None" if option is type(None) else describe(option) for option in arguments)
    if origin is tuple:
        count = "a list of" if Ellipsis in arguments else str(len(arguments))
        return f"{count} {arguments[0].__name__}s"
    if annotation is bool:
        return "True or False"
    return {int: "an int", float: "a number", str: "a text"}.get(annotation, f"a {annotation.__name__}")


def decode(annotation: Any, value: Any, name: str) -> Any:
    """Convert `value` of plain types to an instance of `annotation`; `name` is the dotted name for the message.

    Ints pass as floats, lists as tuples, and nothing else is converted. Raises UserError.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_dataclass(annotation):
        return _decode_dataclass(annotation, value, name)
    if origin in (Union, UnionType):
        if value is None and type(None) in arguments:
            return None
        (annotation,) = (option for option in arguments if option is not type(None))
        return decode(annotation, value, name)
    if origin is Literal and value in arguments and type(value) in map(type, arguments):
        return value
    if origin is tuple and isinstance(value, list | tuple):
        variadic = Ellipsis in arguments
        if variadic and len(value) > MOST_ITEMS:
            raise UserError(f"{name}: {len(value)} values; use {MOST_ITEMS} at most")
        if variadic or len(arguments) == len(value):
            kinds = [arguments[0]] * len(value) if variadic else arguments
            return tuple(decode(kind, item, name) for kind, item in zip(kinds, value, strict=True))
    if annotation is float and type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{name}: {short_repr(value)} is too large") from None
    if annotation in (bool, int, str) and type(value) is annotation:
        return value
    raise UserError(f"{name}: {short_repr(value)} is not {describe(annotation)}")


def _decode_dataclass(cls: Any, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise UserError(f"{name or 'config'}: {short_repr(value)} is not a group of settings ({cls.__name__})")
    hints = _hints(cls)
    prefix = f"{name}." if name else ""
    for key in value:
        if key not in hints:
            word = key if isinstance(key, str) and len(key) < 100 else short_repr(key)
            raise UserError(f"{prefix}{word}: no such setting{did_you_mean(word, hints, prefix)}")
    return cls(**{key: decode(hints[key], item, prefix + key) for key, item in value.items()})


@cache
def _hints(cls: Any) -> Mapping[str, Any]:
    """List {field: type} of a dataclass."""
    return MappingProxyType(get_type_hints(cls))


def _leaf_types(cls: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, annotation in _hints(cls).items():
        if is_dataclass(annotation):
            yield from _leaf_types(annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, annotation


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
