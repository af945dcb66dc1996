"""The founding prototype's plain reading of the paper: one pyramid level, one start token, no question.

Kept as the baseline that the full model is measured against. All lanes of an image begin with the same padding token,
so nothing says which lane is asked for, and padding counts in no loss, so the end of a lane is never learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clrernetlm.config.schema import Config, LaneLMNetworkConfig
from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.lanelm.decoder import KeypointEmbedding, LaneLMDecoder, LaneLMHead, Size, causal_mask
from clrernetlm.models.lanelm.detector import DetectorReader, Observation
from clrernetlm.models.lanelm.generate import Answers
from clrernetlm.models.lanelm.losses import lane_lm_loss

PADDING_X = 0


@torch.no_grad()
def extract_visual_tokens(detector: CLRerNet, images: Tensor) -> Tensor:
    """(B, 3, H, W) float images in [0, 1] -> (B, h w, C): the finest pyramid level, place by place, row by row."""
    return level_tokens(detector.extract_feat(images)[0])


def level_tokens(level: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h w, C)."""
    return level.flatten(2).transpose(1, 2)


def shifted_right(tokens: Tensor, padding: int) -> Tensor:
    """(..., T) -> (..., T): every token one place later, padding first; what the model reads to predict `tokens`."""
    return torch.cat([torch.full_like(tokens[..., :1], padding), tokens[..., :-1]], dim=-1)


class PlainReader(DetectorReader):
    """CLRerNet and the plain language model."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lanelm: LaneLMModel = build_lanelm_model(config.lanelm.network, config.model.head.feature_channels)

    def loss(self, level: Tensor, x_tokens: Tensor, y_tokens: Tensor) -> Tensor:
        """Finest level (B, C, h, w), tokens (B, L, T) -> scalar: both cross-entropies by teacher forcing."""
        padding_y = self.config.lanelm.network.num_steps
        targets_x, targets_y = x_tokens.flatten(0, 1), y_tokens.flatten(0, 1)
        logits_x, logits_y = self.lanelm(
            level_tokens(level), shifted_right(targets_x, PADDING_X), shifted_right(targets_y, padding_y)
        )
        return lane_lm_loss(logits_x, logits_y, targets_x, targets_y, PADDING_X, padding_y)

    def read(self, observation: Observation) -> Answers:
        """One lane per image: all of them begin with the same token, so a second one would be the same lane again.

        There is no word for "no lane", so its score is 1.
        """
        network = self.config.lanelm.network
        x, y = write_greedily(self.lanelm, level_tokens(observation.levels[0]), network.num_steps)
        shown = torch.zeros(*y.shape[:-1], network.num_steps + 1, dtype=torch.bool, device=y.device)
        shown.scatter_(-1, y, x != PADDING_X)
        xs = torch.zeros(shown.shape, device=y.device).scatter_(
            -1, y, x * (self.config.model.viewport.width / network.nbins_x)
        )
        xs, shown = xs[:, None, :-1], shown[:, None, :-1]  # without the padding row
        return Answers(xs, shown, torch.ones(shown.shape[:2], device=y.device))


def build_lanelm_model(network: LaneLMNetworkConfig, channels: int) -> LaneLMModel:
    """The language model for pyramid levels of `channels`."""
    return LaneLMModel(
        nbins_x=network.nbins_x,
        max_y_tokens=network.num_steps + 1,
        embed_dim=network.embed_dim,
        num_layers=network.num_layers,
        num_heads=network.num_heads,
        ffn_dim=network.ffn_dim,
        max_seq_len=network.num_steps,
        visual_in_dim=channels,
    )


@torch.no_grad()
def write_greedily(model: LaneLMModel, visual_tokens: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """(B, K, C) tokens of the image -> x and y tokens (B, T) of the one lane that begins with padding.

    The most likely token follows; after padding in x or y there is only padding.
    """
    visual = model.decoder.visual_caches(model.visual_proj(visual_tokens))
    x = visual_tokens.new_full((len(visual_tokens), 1), PADDING_X, dtype=torch.int64)
    y = torch.full_like(x, steps)
    ended = torch.zeros_like(x, dtype=torch.bool)
    for place in range(steps):
        states, mask = model.embedding(x, y), causal_mask(place + 1, x.device)
        for layer, seen in zip(model.decoder.layers, visual, strict=True):
            states = layer(states, seen, mask)
        logits_x, logits_y = model.head(model.decoder.norm(states[:, -1:]))
        next_x, next_y = logits_x.argmax(-1), logits_y.argmax(-1)
        ended = ended | (next_x == PADDING_X) | (next_y == steps)
        x = torch.cat([x, next_x.masked_fill(ended, PADDING_X)], dim=1)
        y = torch.cat([y, next_y.masked_fill(ended, steps)], dim=1)
    return x[:, 1:], y[:, 1:]


class LaneLMModel(nn.Module):
    """The plain language model: tokens of an image and of lanes -> logits of the next tokens.

    `forward(visual_tokens (B, K, C), x_tokens (N, S), y_tokens (N, S), visual_padding_mask (B, K) or None)` returns
    `logits_x` (N, S, nbins_x) and `logits_y` (N, S, max_y_tokens); N is a multiple of B. Position s sees the tokens up
    to s. `max_y_tokens` counts the padding row.
    """

    @check_arguments
    def __init__(
        self,
        nbins_x: Size = 800,
        max_y_tokens: Size = 41,
        embed_dim: Size = 256,
        num_layers: Size = 4,
        num_heads: Size = 8,
        ffn_dim: Size = 512,
        max_seq_len: Size = 40,
        visual_in_dim: Size | None = None,
    ) -> None:
        super().__init__()
        width = embed_dim if visual_in_dim is None else visual_in_dim
        self.visual_proj = nn.Identity() if width == embed_dim else nn.Linear(width, embed_dim)
        self.embedding = KeypointEmbedding(nbins_x, max_y_tokens, embed_dim, max_seq_len)
        self.decoder = LaneLMDecoder(embed_dim, num_layers, num_heads, ffn_dim)
        self.head = LaneLMHead(embed_dim, nbins_x, max_y_tokens)

    def forward(
        self, visual_tokens: Tensor, x_tokens: Tensor, y_tokens: Tensor, visual_padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        tokens = self.embedding(x_tokens, y_tokens)
        return self.head(self.decoder(tokens, self.visual_proj(visual_tokens), visual_padding_mask))
