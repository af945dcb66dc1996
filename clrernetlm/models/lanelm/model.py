"""Defines LaneLM, which decodes lanes keypoint by keypoint from image features, proposals and prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clrernetlm.config.schema import LaneLMNetworkConfig
from clrernetlm.models.clrernet.head import PYRAMID_LEVELS
from clrernetlm.models.lanelm.context import ImageContext, Logits, PromptContext
from clrernetlm.models.lanelm.decoder import KeypointEmbedding, LaneLMDecoder, LaneLMHead
from clrernetlm.models.lanelm.image_encoder import ChannelNorm, LocalSampler, VisualEncoder
from clrernetlm.models.lanelm.requests import Requests, RowPriors, row_priors

PROPOSAL, CLICK, START, QUERY = range(4)  # types of prefix tokens; the last one, QUERY, predicts the first keypoint
MAX_DISTANCE = 4.0  # of row features, in offset ranges


class LaneLM(nn.Module):
    """Computes logits of the next keypoints from pyramid levels of a frozen detector, requests and previous keypoints.

    `image_size` is (width, height) in network pixels, `channels` the width of the pyramid. Keypoints are decoded from
    the bottom row up, or from the top down (`row_order`); everything outside this class counts rows from the top, and
    `to_decode_order` converts one order into the other. Some submodules keep the names they have in checkpoints, with
    a comment. Source: LaneLM (Zhang and Bai, 2025); local sampling, offset tokens and verification by an immediate end
    are this project's.
    """

    def __init__(self, config: LaneLMNetworkConfig, channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        width, height = image_size
        dim, steps = config.embed_dim, config.num_steps
        self.width, self.height = width, height
        self.spacing = height / steps  # pixels between rows
        self.register_buffer("rows", torch.arange(steps) * self.spacing, persistent=False)
        self.rows: Tensor  # (T,) y of the rows in network pixels, from the top
        self.offset_range = config.offset_range * width
        self.norms = nn.ModuleList(ChannelNorm(channels) for _ in range(PYRAMID_LEVELS))
        if config.global_attention:
            self.visual_encoder = VisualEncoder(channels, dim, min(config.num_layers, PYRAMID_LEVELS))
        if config.local_sampling:
            self.sampler = LocalSampler(
                channels, image_size, PYRAMID_LEVELS, config.strip_points, config.strip_spacing * width
            )
            self.look_here = nn.Linear(self.sampler.out_features, dim)  # features at a prefix token
            self.look_ahead = nn.Linear(2 * self.sampler.out_features, dim)  # features on the row after a keypoint
        self.guide = nn.Linear(8, dim)  # projects `row_features`
        self.embedding = KeypointEmbedding(config.nbins_x, steps + 1, dim, steps + 1)
        self.kind_embedding = nn.Embedding(4, dim)  # of the types of prefix tokens
        self.score = nn.Linear(2, dim)  # projects the detector's confidence, and whether it is known
        self.decoder = LaneLMDecoder(
            dim, config.num_layers, config.num_heads, config.ffn_dim, cross=config.global_attention
        )
        self.head = LaneLMHead(dim, config.nbins_x, steps + 1)
        # Distributed training waits for the gradient of every parameter that requires one.
        self.proj_offset = nn.Linear(dim, config.offset_bins).requires_grad_(config.offset_tokens)
        # Set by `cached_decoding.fuse_for_inference`, for a model whose weights do not change any more.
        self.fused_step_weights: nn.Module | None = None
        self.folded_image_encoders: nn.ModuleList | None = None

    # Rows and x

    def to_decode_order(self, per_row: Tensor) -> Tensor:
        """Convert (..., T) from rows counted from the top to decoding order, or back."""
        return per_row.flip(-1) if self.config.row_order == "bottom_up" else per_row

    def row_index(self, rows: Tensor) -> Tensor:
        """Convert rows in decoding order to rows counted from the top."""
        return self.config.num_steps - 1 - rows if self.config.row_order == "bottom_up" else rows

    def row_y(self, rows: Tensor) -> Tensor:
        """Convert rows in decoding order to y in network pixels."""
        return self.spacing * self.row_index(rows)

    def x_tokens(self, xs: Tensor) -> Tensor:
        """Convert x in network pixels to the nearest bin that is not the padding, int64."""
        nbins = self.config.nbins_x
        return (xs * (nbins / self.width)).round().clamp(1, nbins - 1).long()

    def bin_x(self) -> Tensor:
        """Compute x of every bin in network pixels, (nbins_x,)."""
        return torch.arange(self.config.nbins_x, device=self.rows.device) * (self.width / self.config.nbins_x)

    def offset_x(self) -> Tensor:
        """Compute the distance of every offset bin from the reference curve in network pixels, (offset_bins,)."""
        return torch.linspace(-self.offset_range, self.offset_range, self.config.offset_bins, device=self.rows.device)

    # The image

    def encode_image(self, levels: Sequence[Tensor]) -> ImageContext:
        """Encode pyramid levels (B, C, h, w), finest first, for all requests about these images."""
        normed = [norm(level.float()) for norm, level in zip(self.norms, levels, strict=True)]
        maps = self.sampler.maps(normed) if self.config.local_sampling else []
        if not self.config.global_attention:
            return ImageContext(maps, [None] * self.config.num_layers)
        if self.folded_image_encoders is not None:
            encoders = zip(self.folded_image_encoders, self.layer_levels, strict=True)
            return ImageContext(maps, [encode(normed[level]) for encode, level in encoders])
        coarsest = self.layer_levels[-1]
        tokens = self.visual_encoder(normed[coarsest:])
        memories = self.decoder.image_keys_values([tokens[level - coarsest] for level in self.layer_levels])
        return ImageContext(maps, [*memories])

    @property
    def layer_levels(self) -> list[int]:
        """Return the pyramid level to which each decoder layer attends, from coarse to fine."""
        return [max(PYRAMID_LEVELS - 1 - layer, 0) for layer in range(self.config.num_layers)]

    # The requests

    def encode_requests(self, image: ImageContext, requests: Requests) -> PromptContext:
        """Encode requests as prefix tokens: the proposal's keypoints, the prompts, and the query token."""
        config = self.config
        priors = row_priors(requests, self.rows)
        priors = RowPriors(*(self.to_decode_order(getattr(priors, name)) for name in RowPriors.__dataclass_fields__))

        picked = torch.arange(0, config.num_steps, config.proposal_stride, device=self.rows.device)
        proposal_x, proposal_mask = requests.proposal_x[..., picked], requests.proposal_mask[..., picked]
        proposal_y = self.rows[picked].expand_as(proposal_mask)
        prompt_type = torch.where(requests.is_start, START, CLICK)[..., None].expand_as(requests.prompt_mask)
        query_x, query_y = self._query_position(requests)
        x = torch.cat([proposal_x, requests.prompts[..., 0], query_x], dim=-1)  # (B, L, P)
        y = torch.cat([proposal_y, requests.prompts[..., 1], query_y], dim=-1)
        types = torch.cat(
            [
                torch.full_like(proposal_x, PROPOSAL).long(),
                prompt_type,
                torch.full_like(query_x, QUERY).long(),
            ],
            dim=-1,
        )
        visible = torch.cat([proposal_mask, requests.prompt_mask, torch.ones_like(query_x).bool()], dim=-1)

        row_tokens = (y / self.spacing).round().clamp(0, config.num_steps - 1).long()
        tokens = self.embedding.x_embedding(self.x_tokens(x)) + self.embedding.y_embedding(row_tokens)
        tokens = tokens + self.kind_embedding(types)
        if config.local_sampling:
            tokens = tokens + self.look_here(self.sampler(image.maps, torch.stack([x, y], dim=-1)))
        is_known = requests.score.isfinite()
        confidence = torch.logit(requests.score.nan_to_num(0.5).clamp(0.01, 0.99)) / 4
        confidence = torch.stack([confidence.masked_fill(~is_known, 0.0), is_known.to(confidence)], dim=-1)
        query = tokens[..., -1, :] + self.score(confidence)
        tokens = torch.cat([tokens[..., :-1, :], query[..., None, :]], dim=-2)
        has_proposal = requests.proposal_mask.any(-1)
        return PromptContext(priors, has_proposal, tokens.flatten(0, 1), visible.flatten(0, 1))

    def _query_position(self, requests: Requests) -> tuple[Tensor, Tensor]:
        """Compute where the lane probably begins, x and y (B, L, 1): on the proposal's first row, else at a prompt."""
        proposal_mask = self.to_decode_order(requests.proposal_mask)
        first = proposal_mask.float().argmax(-1, keepdim=True)
        x, y = self.to_decode_order(requests.proposal_x).gather(-1, first), self.row_y(first)
        if not requests.prompts.shape[2]:
            return x, y
        prompt_x, prompt_y = requests.prompts.unbind(-1)
        sign = -1.0 if self.config.row_order == "bottom_up" else 1.0
        nearest = (sign * prompt_y).masked_fill(~requests.prompt_mask, torch.inf).argmin(-1, keepdim=True)
        has_proposal = proposal_mask.any(-1, keepdim=True)
        return (
            torch.where(has_proposal, x, prompt_x.gather(-1, nearest)),
            torch.where(has_proposal, y, prompt_y.gather(-1, nearest)),
        )

    # The answer

    def answer_tokens(
        self, image: ImageContext, context: PromptContext, x: Tensor, previous_x: Tensor, rows: Tensor, indices: Tensor
    ) -> Tensor:
        """Embed decoded keypoints as tokens (N, S, D).

        `x`, `previous_x` (B, L, S): x of a keypoint and of the one before it (NaN for the first), network pixels;
        `rows` (B, L, S): its row in decoding order; `indices` (S,): its index in the answer.
        """
        config, priors = self.config, context.row_priors
        next_rows = (rows + 1).clamp(max=config.num_steps - 1)
        reference = priors.reference.gather(-1, rows)
        next_reference = priors.reference.gather(-1, next_rows)
        has_reference = priors.has_reference.gather(-1, next_rows)
        if not config.autoregressive:  # a control: the token depends on the proposal, not on decoded x
            x, previous_x = reference, torch.full_like(x, torch.nan)
        reference_step = torch.where(has_reference, next_reference - reference, 0.0)
        straight = x + torch.where(previous_x.isfinite(), x - previous_x, reference_step)
        next_reference = torch.where(has_reference, next_reference, straight)
        tokens = self.embedding(self.x_tokens(x), self.row_index(rows), indices)
        tokens = tokens + self.guide(self.row_features(priors, next_rows, x, straight, next_reference, reference))
        if config.local_sampling:
            y = self.row_y(next_rows).to(x)
            points = torch.stack([torch.stack([straight, y], -1), torch.stack([next_reference, y], -1)], dim=-2)
            tokens = tokens + self.look_ahead(self.sampler(image.maps, points).flatten(-2))
        flat: Tensor = tokens.flatten(0, 1)
        return flat

    def row_features(
        self,
        priors: RowPriors,
        next_rows: Tensor,
        x: Tensor,
        straight: Tensor,
        next_reference: Tensor,
        reference: Tensor,
    ) -> Tensor:
        """Compute 8 features (B, L, S, 8) of the rows after keypoints at `x`, `next_rows` (B, L, S).

        `straight` and `next_reference`: x on that row if the lane goes straight on, and of the reference curve;
        `reference`: x of the reference curve on the keypoint's own row. Distances are in offset ranges.
        """

        def distance_to_prompt(prompt_x: Tensor, distance: Tensor) -> Tensor:
            """Compute the horizontal distance of a prompt from the reference curve; 0 without a prompt."""
            return torch.where(distance >= 0, self.scale_distance(prompt_x - next_reference), 0.0)

        def nearness(distance: Tensor) -> Tensor:
            """Compute 1 at a prompt's row, less with the distance in rows; 0 without a prompt."""
            return torch.where(distance >= 0, torch.exp(-distance / 4), 0.0)

        before_x, before_rows = priors.before_x.gather(-1, next_rows), priors.before_rows.gather(-1, next_rows)
        after_x, after_rows = priors.after_x.gather(-1, next_rows), priors.after_rows.gather(-1, next_rows)
        has_reference = priors.has_reference.gather(-1, next_rows)
        features = [
            self.scale_distance(straight - next_reference),
            has_reference.to(x),
            distance_to_prompt(before_x, before_rows),
            nearness(before_rows),
            distance_to_prompt(after_x, after_rows),
            nearness(after_rows),
            self.scale_distance(x - reference) * has_reference,
            next_rows.to(x) / (self.config.num_steps - 1),
        ]
        return torch.stack(features, dim=-1)

    def scale_distance(self, pixels: Tensor) -> Tensor:
        """Convert distances in network pixels to offset ranges, at most `MAX_DISTANCE`."""
        return (pixels / self.offset_range).clamp(-MAX_DISTANCE, MAX_DISTANCE)

    def logits(self, states: Tensor, bins: bool = True) -> Logits:
        """Compute the logits of states (N, A, D); `bins=False` leaves out those of the bins of the image."""
        absolute = self.head.proj_x(states) if bins else states[..., :0]
        return Logits(self.head.proj_y(states), absolute, self.proj_offset(states))

    def forward(
        self, levels: Sequence[Tensor], requests: Requests, xs: Tensor, first_rows: Tensor
    ) -> tuple[Logits, RowPriors]:
        """Compute logits at the query token and at every keypoint of given answers, A = S + 1, at once (training).

        `xs` (B, L, S): x of the keypoints, in decoding order from the row `first_rows` (B, L) on; NaN after the last.
        """
        image = self.encode_image(levels)
        context = self.encode_requests(image, requests)
        length = xs.shape[-1]
        indices = torch.arange(length, device=xs.device)
        rows = (first_rows[..., None] + indices).clamp(max=self.config.num_steps - 1)
        previous_x = torch.cat([torch.full_like(xs[..., :1], torch.nan), xs[..., :-1]], dim=-1)
        answer = self.answer_tokens(image, context, xs.nan_to_num(0.0), previous_x, rows, indices)
        tokens = torch.cat([context.tokens, answer], dim=1)
        mask = self.sequence_mask(context.visible, length)
        for layer, memory in zip(self.decoder.stack, image.memories, strict=True):
            tokens = layer(tokens, memory, mask)
        return self.logits(self.decoder.norm(tokens[:, context.visible.shape[1] - 1 :])), context.row_priors

    def sequence_mask(self, visible: Tensor, length: int) -> Tensor:
        """Build the attention mask (N, 1, P + length, P + length) of prefix tokens, `visible` (N, P), and answers.

        The prefix tokens attend to each other in both directions; the answer attends to them and to its own past.
        """
        prefix = visible.shape[1]
        mask = torch.ones(prefix + length, prefix + length, dtype=torch.bool, device=visible.device).tril()
        mask[:prefix, :prefix] = True
        if not self.config.autoregressive:
            mask[prefix:, prefix:] = torch.eye(length, dtype=torch.bool, device=visible.device)
        visible = torch.cat([visible, visible.new_ones(len(visible), length)], dim=1)
        return mask & visible[:, None, None, :]
