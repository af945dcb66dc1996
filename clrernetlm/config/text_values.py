"""Converts arguments of a command line to values of annotated types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


def value_from_text(annotation: Any, texts: Sequence[str]) -> Any:
    """Convert texts to a value of `annotation`.

    `annotation`: int, float, str, bool, Path, a literal, a tuple of these, or one of them or None. One text makes one
    value; a tuple takes as many as it has items, with an ellipsis any number. Raises ValueError for texts that are no
    such value.
    """
    arguments = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        if list(texts) == ["None"]:
            return None
        return value_from_text(without_none(annotation), texts)
    if get_origin(annotation) is tuple:
        item_types = [arguments[0]] * len(texts) if Ellipsis in arguments else arguments
        return tuple(value_from_text(item, [text]) for item, text in zip(item_types, texts, strict=True))
    (text,) = texts
    if get_origin(annotation) is Literal:
        by_text = {str(choice): choice for choice in arguments}
    elif annotation is bool:
        by_text = {"True": True, "False": False}
    elif annotation in (int, float, str, Path):
        return annotation(text)
    else:
        raise TypeError(f"{annotation} cannot be given as text")
    if text not in by_text:
        raise ValueError(f"{text} is not one of {', '.join(by_text)}")
    return by_text[text]


def without_none(annotation: Any) -> Any:
    """Return the type of a value that may also be None; other types as they are."""
    options = [option for option in get_args(annotation) if option is not NoneType]
    return options[0] if NoneType in get_args(annotation) and len(options) == 1 else annotation
