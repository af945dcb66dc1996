"""Plain LaneLM of the founding prototype: one pyramid level, one start token, no proposals or prompts.

Kept as the baseline for the full model. All lanes of an image begin with the same padding token, so nothing selects
which lane is decoded, and padding counts in no loss, so the end of a lane is never learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from clrernetlm.config.schema import Config, LaneLMNetworkConfig
from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.models.clrernet.detector import CLRerNet, DetectorOutput
from clrernetlm.models.lanelm.decoder import KeypointEmbedding, LaneLMDecoder, LaneLMHead, Size, causal_mask
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase
from clrernetlm.models.lanelm.fovea.patches import FrameCrop
from clrernetlm.models.lanelm.greedy_decoding import Answers, Keypoint, decode_greedily
from clrernetlm.models.lanelm.losses import lane_lm_loss

PADDING_X = 0


@torch.no_grad()
def extract_visual_tokens(detector: CLRerNet, images: Tensor) -> Tensor:
    """Extract the finest pyramid level as tokens: (B, 3, H, W) float images in [0, 1] -> (B, h w, C), row by row."""
    return level_tokens(detector.extract_feat(images)[0])


def level_tokens(level: Tensor) -> Tensor:
    """Flatten a pyramid level (B, C, h, w) to tokens (B, h w, C)."""
    return level.flatten(2).transpose(1, 2)


def shift_right(tokens: Tensor, padding: int) -> Tensor:
    """Shift tokens (..., T) one place later, padding first: the decoder's input to predict `tokens`."""
    return torch.cat([torch.full_like(tokens[..., :1], padding), tokens[..., :-1]], dim=-1)


class PlainLaneLMDetector(LaneLMDetectorBase):
    """CLRerNet with the plain language model."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lanelm: LaneLMModel = build_lanelm_model(config.lanelm.network, config.model.head.feature_channels)

    def loss(self, level: Tensor, x_tokens: Tensor, y_tokens: Tensor) -> Tensor:
        """Compute both cross-entropies by teacher forcing: finest level (B, C, h, w), tokens (B, L, T) -> scalar."""
        padding_y = self.config.lanelm.network.num_steps
        targets_x, targets_y = x_tokens.flatten(0, 1), y_tokens.flatten(0, 1)
        logits_x, logits_y = self.lanelm(
            level_tokens(level), shift_right(targets_x, PADDING_X), shift_right(targets_y, padding_y)
        )
        return lane_lm_loss(logits_x, logits_y, targets_x, targets_y, PADDING_X, padding_y)

    @torch.no_grad()
    def decode_unprompted(self, output: DetectorOutput, crops: Sequence[FrameCrop] | None = None) -> Answers:
        """Decode one lane per image: all begin with the same token, so a second one would be the same lane again.

        The score is always 1: no token means "no lane".
        """
        network = self.config.lanelm.network
        bin_width = self.config.model.viewport.width / network.nbins_x
        decoder = PlainStepDecoder(self.lanelm, level_tokens(output.levels[0]), network.num_steps, bin_width)
        on_host = output.levels[0].device.type == "cpu"
        answers = decode_greedily(decoder, network.num_steps, stop_early=on_host)
        return replace(answers, score=torch.ones_like(answers.score))


def build_lanelm_model(network: LaneLMNetworkConfig, channels: int) -> LaneLMModel:
    """Build the plain language model for pyramid levels of `channels`."""
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


class PlainStepDecoder:
    """Computes the plain model's keypoints for `decode_greedily`: the most likely x and y token of one lane per image.

    `visual_tokens` (B, K, C), `steps` T. The lane begins with padding and ends with padding in x or y. Rows count from
    the top; a bin of x is `bin_width` network pixels wide.
    """

    def __init__(self, model: LaneLMModel, visual_tokens: Tensor, steps: int, bin_width: float = 1.0) -> None:
        self.model, self.steps, self.bin_width = model, steps, bin_width
        self.memories = model.decoder.image_keys_values(model.visual_proj(visual_tokens))
        self.x_tokens = visual_tokens.new_full((len(visual_tokens), 1), PADDING_X, dtype=torch.int64)  # (B, S)
        self.y_tokens = torch.full_like(self.x_tokens, steps)
        self.first = self._next()
        self.lane_probability = torch.ones_like(self.first.x)

    def decode_next(self, index: int, last: Keypoint, previous_x: Tensor) -> Keypoint:
        """As `StepDecoder.decode_next`; the tokens decoded so far are kept in this object."""
        return self._next()

    def _next(self) -> Keypoint:
        """Decode one more token of each kind after those so far."""
        model = self.model
        states, mask = (
            model.embedding(self.x_tokens, self.y_tokens),
            causal_mask(self.x_tokens.shape[1], self.x_tokens.device),
        )
        for layer, memory in zip(model.decoder.stack, self.memories, strict=True):
            states = layer(states, memory, mask)
        logits_x, logits_y = model.head(model.decoder.norm(states[:, -1:]))
        x, y = logits_x.argmax(-1), logits_y.argmax(-1)  # (B, 1)
        self.x_tokens = torch.cat([self.x_tokens, x], dim=1)
        self.y_tokens = torch.cat([self.y_tokens, y], dim=1)
        exists = (x != PADDING_X) & (y != self.steps)
        return Keypoint(y, x * self.bin_width, torch.ones_like(x, dtype=torch.float32), exists)


class LaneLMModel(nn.Module):
    """The plain language model: computes logits of the next tokens from tokens of an image and of lanes.

    `forward(visual_tokens (B, K, C), x_tokens (N, S), y_tokens (N, S), visual_padding_mask (B, K) or None)` returns
    `logits_x` (N, S, nbins_x) and `logits_y` (N, S, max_y_tokens); N is a multiple of B. Position s attends to the
    tokens up to s. `max_y_tokens` counts the padding row.
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
        logits: tuple[Tensor, Tensor] = self.head(
            self.decoder(tokens, self.visual_proj(visual_tokens), visual_padding_mask)
        )
        return logits
