"""Checks of the arguments of public functions: a value of another kind is one UserError that names the argument."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from clrernetlm.errors import UserError

SHOWN = 60  # characters of a value in a message


def require_path(value: object, name: str) -> None:
    """Raise UserError unless `value` is a text or path-like object that can name a file."""
    try:
        path = os.fspath(value)  # type: ignore[call-overload]
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise UserError(f"{name}: {shown(value)} is not a path; use a text or a Path")
    if "\0" in path:
        raise UserError(f"{name}: {shown(path)} holds a NUL character, which no path may; check where it comes from")


def require_whole_number(value: object, name: str, least: int | None = None, most: int | None = None) -> None:
    """Raise UserError unless `value` is a whole number from `least` to `most`."""
    _require_in_range(value, name, Integral, "whole number", least, most)


def require_number(value: object, name: str, least: float | None = None, most: float | None = None) -> None:
    """Raise UserError unless `value` is a number from `least` to `most`; NaN is none."""
    _require_in_range(value, name, Real, "number", least, most)


def _require_in_range(value: Any, name: str, kind: type, called: str, least: float | None, most: float | None) -> None:
    wording = (
        f"use {least or 0:g}{f' to {most:g}' if most is not None else ' or more'}"
        if least is not None
        else f"use a {called}"
    )
    if not _is_number(value, kind):
        raise UserError(f"{name}: {shown(value)} is not a {called}; {wording}")
    if (least is not None and value < least) or (most is not None and value > most):
        raise UserError(f"{name}: {shown(value)} is out of range; {wording}")


def require_size(value: object, name: str, least: int, most: int) -> None:
    """Raise UserError unless `value` is (width, height) in whole pixels from `least` to `most`."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise UserError(f"{name}: {shown(value)} is not (width, height) in pixels; use {least} to {most} for both")
    for side in value:
        if not _is_number(side, Integral) or not least <= side <= most:
            raise UserError(f"{name}: {shown(value)} is not (width, height) in pixels; use {least} to {most} for both")


def require_texts(value: object, name: str) -> None:
    """Raise UserError unless `value` is a list or tuple of texts."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{name}: {shown(value)} is not a list of texts; use a list or tuple of them")


def require_sequence(value: object, name: str, of: str) -> None:
    """Raise UserError unless `value` has a length and items, as lists, tuples and arrays have, and is no text.

    `of` says in the plural what its items are.
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return
    if not hasattr(value, "__array__") or not getattr(value, "shape", ()):
        raise UserError(f"{name}: {shown(value)} is not a list of {of}; use a list or tuple of them")


def shown(value: Any) -> str:
    """A value in at most `SHOWN` characters of one line; its type where it has no short text."""
    if value is None or isinstance(value, str | bytes | bool | int | float):
        try:
            text = repr(value)
        except ValueError:
            text = "a number of thousands of digits"
        return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
    if isinstance(value, tuple | list) and len(value) <= 4 and all(isinstance(item, int | float) for item in value):
        return shown(str(tuple(value)))[1:-1]
    shape = getattr(value, "shape", None)
    return (
        f"{type(value).__name__} of shape {tuple(shape)}" if isinstance(shape, tuple) else f"a {type(value).__name__}"
    )


def _is_number(value: object, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    try:
        return not math.isnan(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number beyond every float
        return kind is Integral
