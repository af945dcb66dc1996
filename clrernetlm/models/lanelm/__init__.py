"""LaneLM: lanes as sequences of tokens, read from a frozen detector's features. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clrernetlm.models.lanelm.decoder import KeypointEmbedding, LaneLMDecoder, LaneLMDecoderLayer, LaneLMHead
    from clrernetlm.models.lanelm.losses import lane_lm_loss
    from clrernetlm.models.lanelm.plain import LaneLMModel
    from clrernetlm.models.lanelm.tokenizer import LaneTokenizer, LaneTokenizerConfig

_HOME = {
    "KeypointEmbedding": "model",
    "LaneLMDecoder": "model",
    "LaneLMDecoderLayer": "model",
    "LaneLMHead": "model",
    "LaneLMModel": "model",
    "LaneTokenizer": "tokenizer",
    "LaneTokenizerConfig": "tokenizer",
    "lane_lm_loss": "losses",
}

__all__ = [
    "KeypointEmbedding",
    "LaneLMDecoder",
    "LaneLMDecoderLayer",
    "LaneLMHead",
    "LaneLMModel",
    "LaneTokenizer",
    "LaneTokenizerConfig",
    "lane_lm_loss",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
