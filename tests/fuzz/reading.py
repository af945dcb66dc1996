"""Helpers that readers of several kinds share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from clrernetlm.core.errors import UserError
from clrernetlm.inference.predictor import Predictor


def each(*readers: Callable[[], Any]) -> None:
    """Call all readers, then raise the first UserError of them; any other error at once."""
    refused: list[UserError] = []
    for reader in readers:
        try:
            reader()
        except UserError as error:
            refused.append(error)
    if refused:
        raise refused[0]


@cache
def predictor_of(checkpoint: str) -> Predictor:
    """A Predictor with the weights and settings of a file, made once."""
    return Predictor(checkpoint=checkpoint)
