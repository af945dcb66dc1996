"""Decodes keypoints one at a time with a KV cache; everything that does not depend on the step is computed up front.

`LaneLM.answer_tokens` and the decoder layers define the computation, for any number of keypoints at once;
`CachedDecoder` computes the same for one more keypoint of every lane.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clrernetlm.models.lanelm.context import ImageContext, Logits, PromptContext
from clrernetlm.models.lanelm.folded_attention import FoldedAttention, FoldedKeysValues
from clrernetlm.models.lanelm.model import LaneLM

FINEST_STRIDE = 8
MAX_STRIPS = 256  # feature strips sampled at once, which bounds memory: strips are larger than the tokens made of them


@dataclass
class KVCache:
    """Keys and values of the tokens before the answer, of every layer, with room for the longest answer."""

    keys: list[Tensor]  # per layer (N, heads, P + T, d)
    values: list[Tensor]
    visible: Tensor  # (N, 1, 1, P + T) bool, False for the answer
    prefix_length: int  # P


def prefill(model: LaneLM, image: ImageContext, context: PromptContext) -> tuple[Logits, KVCache]:
    """Run the prefix tokens through the decoder; returns logits (N, 1, ...) of the first keypoint, and the cache."""
    tokens, prefix = context.tokens, context.tokens.shape[1]
    total = prefix + model.config.num_steps
    answer = torch.zeros(tokens.shape[0], total - prefix, dtype=torch.bool, device=tokens.device)
    visible = torch.cat([context.visible, answer], dim=1)[:, None, None, :]
    cache = KVCache([], [], visible, prefix)
    last = model.decoder.stack[-1]
    for layer, memory in zip(model.decoder.stack, image.memories, strict=True):
        normed = layer.norm_self(tokens)
        keys_values = layer.own_keys_values(tokens, normed)
        for store, new in zip((cache.keys, cache.values), keys_values, strict=True):
            room = new.new_zeros(*new.shape[:2], total, new.shape[-1])
            room[:, :, :prefix] = new
            store.append(room)
        if layer is last:  # only the last token's result is used
            tokens, normed = tokens[:, -1:], normed[:, -1:]
        tokens = layer.forward_new(tokens, keys_values, memory, visible[..., :prefix], normed=normed)
    return model.logits(model.decoder.norm(tokens)), cache


def fuse_for_inference(model: LaneLM, fold_image_encoder: bool) -> None:
    """Precompute combined weights for decoding, in place; the model's weights must not change afterwards.

    `fold_image_encoder` also folds the image projections of each layer's attention, for the CPU with oneDNN.
    """
    model.fused_step_weights = FusedStepWeights(model)
    if fold_image_encoder and model.config.global_attention:
        model.folded_image_encoders = folded_image_encoders(model)


class FusedStepWeights(nn.Module):
    """Weights of a decoding step, joined so that each input takes one matrix product; without gradients.

    `query_key_value`: the projections of each layer's self-attention. `ahead`: projects the feature strip straight
    ahead of the lane, and the row features `X_FEATURES`; `reference`: projects the strip at the reference curve.
    """

    X_FEATURES = (0, 6, 2, 4)  # row features that depend on x, the last two only on rows without a reference

    def __init__(self, model: LaneLM) -> None:
        super().__init__()
        attentions = [layer.self_attn for layer in model.decoder.stack]
        self.query_key_value = nn.ModuleList(joined(one.query, one.key_value) for one in attentions)
        weight = model.guide.weight[:, self.X_FEATURES]
        if model.config.local_sampling:
            at_straight, at_reference = model.look_ahead.weight.chunk(2, dim=1)
            weight = torch.cat([at_straight, weight], dim=1)
            self.reference = frozen_linear(at_reference, None)
        self.ahead = frozen_linear(weight, model.look_ahead.bias if model.config.local_sampling else None)


class CachedDecoder:
    """Computes the logits of one more keypoint of N = B * L lanes per call, which start on rows `first_row` (B, L).

    Writes into the cache. `request_mask` (B, L): lanes whose logits are used, to skip what these do not need; None on a
    GPU, where reading it would force a device sync.
    """

    def __init__(
        self,
        model: LaneLM,
        image: ImageContext,
        context: PromptContext,
        cache: KVCache,
        first_row: Tensor,
        request_mask: Tensor | None,
    ) -> None:
        self.model, self.image, self.cache = model, image, cache
        fused = model.fused_step_weights
        self.weights = fused if isinstance(fused, FusedStepWeights) else FusedStepWeights(model)
        self.shape, config, priors = first_row.shape, model.config, context.row_priors
        last = config.num_steps - 1
        indices = torch.arange(last, device=first_row.device)  # of keypoints in their lane
        rows = (first_row[..., None] + indices).clamp(max=last)  # (B, L, T - 1)
        next_rows = (rows + 1).clamp(max=last)
        reference, next_reference = priors.reference.gather(-1, rows), priors.reference.gather(-1, next_rows)
        has_reference = priors.has_reference.gather(-1, next_rows)
        features = model.row_features(priors, next_rows, reference, next_reference, next_reference, reference)
        for number in self.weights.X_FEATURES[2:]:
            features[..., number] *= has_reference
        tokens = model.embedding.y_embedding(model.row_index(rows))
        tokens += model.embedding.pos_embedding(indices)
        tokens += model.guide(features)
        if config.local_sampling:
            y = model.row_y(next_rows).to(next_reference)
            points, max_indices = torch.stack([next_reference, y], dim=-1), max(1, MAX_STRIPS // first_row.numel())
            for start in range(0, last, max_indices):
                part = slice(start, start + max_indices)
                strips = model.sampler(image.maps, points[:, :, part])
                # On a row without a reference this strip is the one straight ahead, which depends on x.
                tokens[:, :, part] += self.weights.reference(strips * has_reference[:, :, part, None])
            self.grids = model.sampler.grid(torch.stack([torch.zeros_like(y), y], dim=-1)).unbind(2)  # for x = 0
        # Per keypoint index: (N, D) tokens without the part that depends on x, and (B, L) values.
        self.tokens = tokens.permute(2, 0, 1, 3).flatten(1, 2).unbind(0)
        self.reference, self.next_reference = reference.unbind(-1), next_reference.unbind(-1)
        self.has_reference = has_reference.unbind(-1)
        self.zeros = torch.zeros_like(next_reference[..., 0])
        self.reference_step = torch.where(has_reference, next_reference - reference, 0.0).unbind(-1)
        # x of the prompts before and after the row, and whether their features depend on x.
        self.prompts = [
            (xs.gather(-1, next_rows).unbind(-1), ((distance.gather(-1, next_rows) >= 0) & ~has_reference).unbind(-1))
            for xs, distance in ((priors.before_x, priors.before_rows), (priors.after_x, priors.after_rows))
        ]
        self.all_have_reference = request_mask is not None and bool((has_reference.all(-1) | ~request_mask).all())
        self.needs_bins = (
            request_mask is None or not config.offset_tokens or bool((request_mask & ~context.has_proposal).any())
        )
        visible = cache.visible.clone()
        visible[..., cache.prefix_length :] = True
        needs_mask = request_mask is None or not bool(visible.all())
        self.mask = (
            torch.zeros(visible.shape, device=visible.device).masked_fill(~visible, -torch.inf) if needs_mask else None
        )

    def next_logits(self, index: int, x: Tensor, previous_x: Tensor) -> Logits:
        """Compute logits (N, 1, ...) of the keypoint after keypoint `index` of every lane.

        `x` (B, L) of that keypoint and `previous_x` of the one before it (not used at index 0), network pixels.
        """
        model, cache = self.model, self.cache
        tokens = self._token(index, x, previous_x)
        # Without `autoregressive`, every keypoint reuses one cache slot and overwrites the previous one.
        slot = cache.prefix_length + (index if model.config.autoregressive else 0)
        mask = None if self.mask is None else self.mask[..., : slot + 1]
        images, dim = self.shape[0], tokens.shape[-1]
        for number, (layer, memory) in enumerate(zip(model.decoder.stack, self.image.memories, strict=True)):
            keys, values, heads = cache.keys[number], cache.values[number], layer.self_attn.num_heads
            own = self.weights.query_key_value[number](layer.norm_self(tokens)).view(-1, 3, heads, dim // heads)
            query, keys[:, :, slot], values[:, :, slot] = own.unbind(1)
            attended = F.scaled_dot_product_attention(
                query[:, :, None], keys[:, :, : slot + 1], values[:, :, : slot + 1], mask
            )
            tokens = tokens + layer.self_attn.out(attended.view(-1, dim))
            tokens = layer.attend_to_image(tokens.view(images, -1, dim), memory).view(-1, dim)
            tokens = tokens + layer.ffn(layer.norm_ffn(tokens))
        return model.logits(model.decoder.norm(tokens)[:, None], self.needs_bins)

    def _token(self, index: int, x: Tensor, previous_x: Tensor) -> Tensor:
        """Compute the token (N, D) of keypoint `index` at `x`, as `LaneLM.answer_tokens`."""
        model, reference, has_reference = self.model, self.reference[index], self.has_reference[index]
        if not model.config.autoregressive:
            x = reference
        step = x - previous_x if index and model.config.autoregressive else self.reference_step[index]
        straight = x + step  # x on the next row if the lane goes straight on
        distances = [straight - self.next_reference[index], x - reference]
        if self.all_have_reference:
            features = torch.stack([*distances, self.zeros, self.zeros], dim=-1)
        else:
            distances = [distance * has_reference for distance in distances]
            distances += [(prompt_x[index] - straight) * used[index] for prompt_x, used in self.prompts]
            features = torch.stack(distances, dim=-1)
        inputs = [model.scale_distance(features)]
        if model.config.local_sampling:
            grid = model.sampler.shift_grid(self.grids[index], straight)
            inputs.insert(0, model.sampler.sample(self.image.maps, grid))
        tokens: Tensor = self.tokens[index] + model.embedding.x_embedding(model.x_tokens(x)).flatten(0, 1)
        tokens = tokens + self.weights.ahead(torch.cat(inputs, dim=-1)).flatten(0, 1)
        if model.config.local_sampling and not self.all_have_reference:
            tokens = tokens + self.weights.reference(inputs[0] * ~has_reference[..., None]).flatten(0, 1)
        return tokens


def folded_image_encoders(model: LaneLM) -> nn.ModuleList:
    """Build the modules that compute every layer's `ImageMemory` from its pyramid level.

    Where a head is at least as wide as the pyramid, attending to its features directly takes fewer products.
    """
    encoder, encoders = model.visual_encoder, []
    for layer, level in zip(model.decoder.stack, model.layer_levels, strict=True):
        number = level - model.layer_levels[-1]
        project, attention = encoder.project[number], layer.cross_attn
        assert isinstance(project, nn.Conv2d)
        assert attention is not None
        is_wide = project.out_channels // attention.num_heads >= project.in_channels
        stride = FINEST_STRIDE << level
        size = (model.height // stride, model.width // stride)
        kind = FoldedAttention if is_wide else FoldedKeysValues
        encoders.append(kind(attention, project, encoder.level_embedding[number], size))
    return nn.ModuleList(encoders)


def frozen_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Build a Linear with the given weights, without gradient."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), False)
    return linear


def joined(*linears: nn.Linear) -> nn.Linear:
    """Join Linears of the same input into one whose output is theirs, concatenated; without gradient."""
    return frozen_linear(torch.cat([one.weight for one in linears]), torch.cat([one.bias for one in linears]))
