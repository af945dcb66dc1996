"""Defines LaneLM, which decodes lanes as token sequences from a detector's features. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clrernetlm.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from clrernetlm.models.lanelm.decoder import KeypointEmbedding, LaneLMDecoder, LaneLMDecoderLayer, LaneLMHead
    from clrernetlm.models.lanelm.losses import lane_lm_loss
    from clrernetlm.models.lanelm.prototype import LaneLMModel
    from clrernetlm.models.lanelm.tokenizer import LaneTokenizer, LaneTokenizerConfig

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "KeypointEmbedding": "clrernetlm.models.lanelm.decoder",
        "LaneLMDecoder": "clrernetlm.models.lanelm.decoder",
        "LaneLMDecoderLayer": "clrernetlm.models.lanelm.decoder",
        "LaneLMHead": "clrernetlm.models.lanelm.decoder",
        "LaneLMModel": "clrernetlm.models.lanelm.prototype",
        "LaneTokenizer": "clrernetlm.models.lanelm.tokenizer",
        "LaneTokenizerConfig": "clrernetlm.models.lanelm.tokenizer",
        "lane_lm_loss": "clrernetlm.models.lanelm.losses",
    },
)
