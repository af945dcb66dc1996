"""LaneLM: reads a question and prompts, looks at the image, and writes a lane keypoint by keypoint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clrernetlm.config.schema import LaneLMNetworkConfig
from clrernetlm.models.clrernet.head import PYRAMID_LEVELS
from clrernetlm.models.lanelm.context import Brief, Logits, Scene
from clrernetlm.models.lanelm.decoder import KeypointEmbedding, LaneLMDecoder, LaneLMHead
from clrernetlm.models.lanelm.requests import Guides, Requests, guides
from clrernetlm.models.lanelm.visual import ChannelNorm, LocalSampler, VisualEncoder

QUESTION, CLICK, START, ASK = range(4)  # kinds of tokens before the answer


class LaneLM(nn.Module):
    """Pyramid levels of a frozen detector, requests and answers so far -> logits of the next keypoints.

    `image_size` is (width, height) in network pixels, `channels` the width of the pyramid. Rows are written from the
    bottom up, or from the top down (`row_order`); everything outside this class counts rows from the top, and
    `written` turns one order into the other. Source: LaneLM (Zhang and Bai, 2025); local sampling, offset tokens and
    verification by an immediate end are this project's.
    """

    def __init__(self, config: LaneLMNetworkConfig, channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        width, height = image_size
        dim, steps = config.embed_dim, config.num_steps
        self.width, self.height = width, height
        self.spacing = height / steps  # pixels between rows
        self.register_buffer(
            "rows", torch.arange(steps) * self.spacing, persistent=False
        )  # y of the rows, from the top
        self.rows: Tensor
        self.offset_range = config.offset_range * width
        self.norms = nn.ModuleList(ChannelNorm(channels) for _ in range(PYRAMID_LEVELS))
        if config.global_attention:
            self.visual_encoder = VisualEncoder(channels, dim, min(config.num_layers, PYRAMID_LEVELS))
        if config.local_sampling:
            self.sampler = LocalSampler(
                channels, image_size, PYRAMID_LEVELS, config.strip_points, config.strip_spacing * width
            )
            self.look_here = nn.Linear(self.sampler.out_features, dim)
            self.look_ahead = nn.Linear(2 * self.sampler.out_features, dim)
        self.guide = nn.Linear(8, dim)
        self.embedding = KeypointEmbedding(config.nbins_x, steps + 1, dim, steps + 1)
        self.kind_embedding = nn.Embedding(4, dim)
        self.score = nn.Linear(2, dim)
        self.decoder = LaneLMDecoder(
            dim, config.num_layers, config.num_heads, config.ffn_dim, cross=config.global_attention
        )
        self.head = LaneLMHead(dim, config.nbins_x, steps + 1)
        # Distributed training waits for the gradient of every parameter that could have one.
        self.proj_offset = nn.Linear(dim, config.offset_bins).requires_grad_(config.offset_tokens)
        # Set by `cached_decoding.fuse_for_inference`, for a model whose weights do not change any more.
        self.fused_step_weights: nn.Module | None = None
        self.folded_image_encoders: nn.ModuleList | None = None

    # Rows and x

    def written(self, per_row: Tensor) -> Tensor:
        """(..., T) from the top -> writing order, or back."""
        return per_row.flip(-1) if self.config.row_order == "bottom_up" else per_row

    def row_index(self, steps: Tensor) -> Tensor:
        """Places in writing order -> rows counted from the top."""
        return self.config.num_steps - 1 - steps if self.config.row_order == "bottom_up" else steps

    def row_y(self, steps: Tensor) -> Tensor:
        """Places in writing order -> y in network pixels."""
        return self.spacing * self.row_index(steps)

    def x_tokens(self, xs: Tensor) -> Tensor:
        """x in network pixels -> the nearest bin that is not the padding, int64."""
        nbins = self.config.nbins_x
        return (xs * (nbins / self.width)).round().clamp(1, nbins - 1).long()

    def bin_x(self) -> Tensor:
        """(nbins_x,) x of every bin in network pixels."""
        return torch.arange(self.config.nbins_x, device=self.rows.device) * (self.width / self.config.nbins_x)

    def offset_x(self) -> Tensor:
        """(offset_bins,) distance of every offset bin from the reference in network pixels."""
        return torch.linspace(-self.offset_range, self.offset_range, self.config.offset_bins, device=self.rows.device)

    # The image

    def look(self, levels: Sequence[Tensor]) -> Scene:
        """Pyramid levels (B, C, h, w), finest first -> the scene all requests about these images share."""
        normed = [norm(level.float()) for norm, level in zip(self.norms, levels, strict=True)]
        maps = self.sampler.maps(normed) if self.config.local_sampling else []
        if not self.config.global_attention:
            return Scene(maps, [None] * self.config.num_layers)
        if self.folded_image_encoders is not None:
            encoders = zip(self.folded_image_encoders, self.seen, strict=True)
            return Scene(maps, [encode(normed[level]) for encode, level in encoders])
        tokens = self.visual_encoder(normed[self.seen[-1] :])
        return Scene(maps, [*self.decoder.visual_caches([tokens[level - self.seen[-1]] for level in self.seen])])

    @property
    def seen(self) -> list[int]:
        """The pyramid level that each layer attends to: from coarse to fine, as the layers go."""
        return [max(PYRAMID_LEVELS - 1 - layer, 0) for layer in range(self.config.num_layers)]

    # The request

    def read(self, scene: Scene, requests: Requests) -> Brief:
        """The tokens before the answer: the question's keypoints, the prompts, and the place that asks."""
        config = self.config
        order = guides(requests, self.rows)
        order = Guides(*(self.written(getattr(order, name)) for name in Guides.__dataclass_fields__))
        has_question = requests.shown.any(-1)

        picked = torch.arange(0, config.num_steps, config.question_stride, device=self.rows.device)
        question_x, question_y = (
            requests.question[..., picked],
            self.rows[picked].expand_as(requests.shown[..., picked]),
        )
        prompt_kind = torch.where(requests.is_start, START, CLICK)[..., None].expand_as(requests.prompted)
        ask_x, ask_y = self._place_of_asking(requests)
        x = torch.cat([question_x, requests.prompts[..., 0], ask_x], dim=-1)  # (B, L, P)
        y = torch.cat([question_y, requests.prompts[..., 1], ask_y], dim=-1)
        kind = torch.cat(
            [torch.full_like(question_x, QUESTION).long(), prompt_kind, torch.full_like(ask_x, ASK).long()], dim=-1
        )
        visible = torch.cat([requests.shown[..., picked], requests.prompted, torch.ones_like(ask_x).bool()], dim=-1)

        row_tokens = (y / self.spacing).round().clamp(0, config.num_steps - 1).long()
        tokens = self.embedding.x_embedding(self.x_tokens(x)) + self.embedding.y_embedding(row_tokens)
        tokens = tokens + self.kind_embedding(kind)
        if config.local_sampling:
            tokens = tokens + self.look_here(self.sampler(scene.maps, torch.stack([x, y], dim=-1)))
        known = requests.score.isfinite()
        confidence = torch.logit(requests.score.nan_to_num(0.5).clamp(0.01, 0.99)) / 4
        facts = self.score(torch.stack([confidence.masked_fill(~known, 0.0), known.to(confidence)], dim=-1))
        tokens = torch.cat([tokens[..., :-1, :], (tokens[..., -1, :] + facts)[..., None, :]], dim=-2)
        return Brief(order, has_question, tokens.flatten(0, 1), visible.flatten(0, 1))

    def _place_of_asking(self, requests: Requests) -> tuple[Tensor, Tensor]:
        """x and y, (B, L, 1) each, where the answer is expected to begin: the question's first row, else a prompt."""
        shown = self.written(requests.shown)
        first = shown.float().argmax(-1, keepdim=True)
        x, y = self.written(requests.question).gather(-1, first), self.row_y(first)
        if not requests.prompts.shape[2]:
            return x, y
        prompt_x, prompt_y = requests.prompts.unbind(-1)
        sign = -1.0 if self.config.row_order == "bottom_up" else 1.0
        nearest = (sign * prompt_y).masked_fill(~requests.prompted, torch.inf).argmin(-1, keepdim=True)
        has_question = shown.any(-1, keepdim=True)
        return (
            torch.where(has_question, x, prompt_x.gather(-1, nearest)),
            torch.where(has_question, y, prompt_y.gather(-1, nearest)),
        )

    # The answer

    def answer_tokens(
        self, scene: Scene, brief: Brief, x: Tensor, previous_x: Tensor, steps: Tensor, places: Tensor
    ) -> Tensor:
        """Keypoints written so far -> their tokens (N, S, D).

        `x`, `previous_x` (B, L, S): x of a keypoint and of the one before it (NaN at the first), network pixels;
        `steps` (B, L, S): its row in writing order; `places` (S,): its place in the answer.
        """
        config, order = self.config, brief.guides
        ahead = (steps + 1).clamp(max=config.num_steps - 1)
        here = order.reference.gather(-1, steps)
        reference, referred = order.reference.gather(-1, ahead), order.referred.gather(-1, ahead)
        if not config.sees_past:  # a control: whatever was written, the question is all that is known
            x, previous_x = here, torch.full_like(x, torch.nan)
        drift = torch.where(referred, reference - here, 0.0)  # what the reference does from this row to the next
        straight = x + torch.where(previous_x.isfinite(), x - previous_x, drift)
        reference = torch.where(referred, reference, straight)
        tokens = self.embedding(self.x_tokens(x), self.row_index(steps), places)
        tokens = tokens + self.guide(self.facts(order, ahead, x, straight, reference, here))
        if config.local_sampling:
            y = self.row_y(ahead).to(x)
            strips = self.sampler(
                scene.maps, torch.stack([torch.stack([straight, y], -1), torch.stack([reference, y], -1)], dim=-2)
            )
            tokens = tokens + self.look_ahead(strips.flatten(-2))
        return tokens.flatten(0, 1)

    def facts(
        self, order: Guides, ahead: Tensor, x: Tensor, straight: Tensor, reference: Tensor, here: Tensor
    ) -> Tensor:
        """(B, L, S, 8): what is known of the row ahead (B, L, S) and how it lies to a keypoint at `x`.

        `straight` and `reference`: x on the row ahead, straight on and of the reference; `here`: the reference's x
        beside the keypoint.
        """
        reach = self.offset_range

        def apart(values: Tensor, rows: Tensor) -> Tensor:
            """How far a prompt is from where the lane seems to go, 0 without one."""
            return torch.where(rows >= 0, (values - reference) / reach, 0.0).clamp(-4, 4)

        def nearness(rows: Tensor) -> Tensor:
            return torch.where(rows >= 0, torch.exp(-rows / 4), 0.0)

        before_x, before_rows = order.before_x.gather(-1, ahead), order.before_rows.gather(-1, ahead)
        after_x, after_rows = order.after_x.gather(-1, ahead), order.after_rows.gather(-1, ahead)
        referred = order.referred.gather(-1, ahead)
        facts = [
            ((straight - reference) / reach).clamp(-4, 4),
            referred.to(x),
            apart(before_x, before_rows),
            nearness(before_rows),
            apart(after_x, after_rows),
            nearness(after_rows),
            ((x - here) / reach).clamp(-4, 4) * referred,
            ahead.to(x) / (self.config.num_steps - 1),
        ]
        return torch.stack(facts, dim=-1)

    def logits(self, states: Tensor, bins: bool = True) -> Logits:
        """States (N, A, D) -> logits; without `bins` there are none of those of the image."""
        absolute = self.head.proj_x(states) if bins else states[..., :0]
        return Logits(self.head.proj_y(states), absolute, self.proj_offset(states))

    def forward(
        self, levels: Sequence[Tensor], requests: Requests, xs: Tensor, starts: Tensor
    ) -> tuple[Logits, Guides]:
        """Logits at the asking place and at every keypoint of the answers given, A = S + 1, all at once (training).

        `xs` (B, L, S): x of the keypoints, in writing order from the row `starts` (B, L) on; NaN after the last.
        """
        scene = self.look(levels)
        brief = self.read(scene, requests)
        length = xs.shape[-1]
        places = torch.arange(length, device=xs.device)
        steps = (starts[..., None] + places).clamp(max=self.config.num_steps - 1)
        known = xs.nan_to_num(0.0)
        previous = torch.cat([torch.full_like(xs[..., :1], torch.nan), xs[..., :-1]], dim=-1)
        answer = self.answer_tokens(scene, brief, known, previous, steps, places)
        tokens = torch.cat([brief.tokens, answer], dim=1)
        mask = self.sequence_mask(brief.visible, length)
        for layer, visual in zip(self.decoder.stack, scene.visual, strict=True):
            tokens = layer(tokens, visual, mask)
        return self.logits(self.decoder.norm(tokens[:, brief.visible.shape[1] - 1 :])), brief.guides

    def sequence_mask(self, visible: Tensor, length: int) -> Tensor:
        """(N, P) visible tokens before the answer -> (N, 1, P + length, P + length): who looks at whom.

        The tokens before the answer all see each other; the answer sees them and its own past.
        """
        before = visible.shape[1]
        mask = torch.ones(before + length, before + length, dtype=torch.bool, device=visible.device).tril()
        mask[:before, :before] = True
        if not self.config.sees_past:
            mask[before:, before:] = torch.eye(length, dtype=torch.bool, device=visible.device)
        seen = torch.cat([visible, visible.new_ones(len(visible), length)], dim=1)
        return mask & seen[:, None, None, :]
