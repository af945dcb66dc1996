"""Writing keypoint after keypoint: what of a step is known before the first is computed once, the rest in few products.

`LaneLM.answer_tokens` and its layers say what is computed, for any keypoints at once; `Writer` computes the same for
one more keypoint of every lane.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clrernetlm.models.lanelm.context import Brief, Logits, Scene
from clrernetlm.models.lanelm.folded_attention import FoldedAttention, FoldedMemory
from clrernetlm.models.lanelm.model import LaneLM

FINEST_STRIDE = 8
SPOTS = 256  # strips sampled at once: they take more memory than what is made of them


@dataclass
class Cache:
    """Keys and values of the tokens before the answer, of every layer, with room for the longest answer."""

    keys: list[Tensor]  # per layer (N, heads, P + T, d)
    values: list[Tensor]
    visible: Tensor  # (N, 1, 1, P + T) bool, False for the answer
    length: int  # P


def fuse_for_inference(model: LaneLM, fold_image_encoder: bool) -> None:
    """Fuse the weights of a LaneLM for decoding, once; they must not change any more.

    `fold_image_encoder` also folds what encodes an image for the attention of each layer, for oneDNN.
    """
    model.fused_step_weights = FusedStepWeights(model)
    if fold_image_encoder and model.config.global_attention:
        model.folded_image_encoders = folded_image_encoders(model)


class FusedStepWeights(nn.Module):
    """Weights that `CachedDecoder` multiplies with in a step: those of one input in one matrix, without gradient.

    `own`: queries, keys and values of each layer. `straight`: the strip where the lane goes straight on, with the
    `MOVING` facts; `reference`: the strip at the reference.
    """

    MOVING = (0, 6, 2, 4)  # facts that depend on x, in the last two only where there is no reference

    def __init__(self, model: LaneLM) -> None:
        super().__init__()
        attentions = [layer.self_attn for layer in model.decoder.stack]
        self.own = nn.ModuleList(product(both.query, both.key_value) for both in attentions)
        straight = model.guide.weight[:, self.MOVING]
        if model.config.local_sampling:
            at_straight, at_reference = model.look_ahead.weight.chunk(2, dim=1)
            straight = torch.cat([at_straight, straight], dim=1)
            self.reference = linear(at_reference, None)
        self.straight = linear(straight, model.look_ahead.bias if model.config.local_sampling else None)


class Writer:
    """Logits of the next keypoint of N = B * L lanes, one call after the other, from `first` (B, L) rows on.

    Writes into the cache. `asked` (B, L): lanes whose logits count; None where looking at it would make the host wait.
    """

    def __init__(
        self, model: LaneLM, scene: Scene, brief: Brief, cache: Cache, first: Tensor, asked: Tensor | None
    ) -> None:
        self.model, self.scene, self.cache = model, scene, cache
        fused = model.fused_step_weights
        self.weights = fused if isinstance(fused, FusedStepWeights) else FusedStepWeights(model)
        self.shape, config, order = first.shape, model.config, brief.guides
        last = config.num_steps - 1
        places = torch.arange(last, device=first.device)
        steps = (first[..., None] + places).clamp(max=last)  # (B, L, T - 1)
        ahead = (steps + 1).clamp(max=last)
        here, reference = order.reference.gather(-1, steps), order.reference.gather(-1, ahead)
        referred = order.referred.gather(-1, ahead)
        facts = model.facts(order, ahead, here, reference, reference, here)
        for number in self.weights.MOVING[2:]:
            facts[..., number] *= referred
        tokens = model.embedding.y_embedding(model.row_index(steps))
        tokens += model.embedding.pos_embedding(places)
        tokens += model.guide(facts)
        if config.local_sampling:
            y = model.row_y(ahead).to(reference)
            spots, most = torch.stack([reference, y], dim=-1), max(1, SPOTS // first.numel())
            for start in range(0, last, most):
                part = slice(start, start + most)
                strips = model.sampler(scene.maps, spots[:, :, part])
                # Without a reference this strip is that of x, too.
                tokens[:, :, part] += self.weights.reference(strips * referred[:, :, part, None])
            self.grids = model.sampler.grid(torch.stack([torch.zeros_like(y), y], dim=-1)).unbind(2)  # for x = 0
        self.tokens = tokens.permute(2, 0, 1, 3).flatten(1, 2).unbind(0)  # per place (N, D)
        self.here, self.reference, self.referred = here.unbind(-1), reference.unbind(-1), referred.unbind(-1)
        self.nothing = torch.zeros_like(reference[..., 0])
        self.drift = torch.where(referred, reference - here, 0.0).unbind(-1)
        self.prompts = [  # where they are, and whether they must do without a reference
            (xs.gather(-1, ahead).unbind(-1), ((rows.gather(-1, ahead) >= 0) & ~referred).unbind(-1))
            for xs, rows in ((order.before_x, order.before_rows), (order.after_x, order.after_rows))
        ]
        self.all_referred = asked is not None and bool((referred.all(-1) | ~asked).all())
        self.absolute = asked is None or not config.offset_tokens or bool((asked & ~brief.has_question).any())
        seen = cache.visible.clone()
        seen[..., cache.length :] = True
        hides = asked is None or not bool(seen.all())
        self.mask = torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, -torch.inf) if hides else None

    def step(self, place: int, x: Tensor, previous: Tensor) -> Logits:
        """The keypoint at `place` of every answer, x and that of the one before (B, L) -> logits (N, 1, ...)."""
        model, cache = self.model, self.cache
        tokens = self._token(place, x, previous)
        # Who does not see the past writes over it.
        at = cache.length + (place if model.config.sees_past else 0)
        mask = None if self.mask is None else self.mask[..., : at + 1]
        images, dim = self.shape[0], tokens.shape[-1]
        for number, (layer, visual) in enumerate(zip(model.decoder.stack, self.scene.visual, strict=True)):
            keys, values, heads = cache.keys[number], cache.values[number], layer.self_attn.num_heads
            own = self.weights.own[number](layer.norm_self(tokens)).view(-1, 3, heads, dim // heads)
            query, keys[:, :, at], values[:, :, at] = own.unbind(1)
            seen = F.scaled_dot_product_attention(query[:, :, None], keys[:, :, : at + 1], values[:, :, : at + 1], mask)
            tokens = tokens + layer.self_attn.out(seen.view(-1, dim))
            tokens = layer.see(tokens.view(images, -1, dim), visual).view(-1, dim)
            tokens = tokens + layer.ffn(layer.norm_ffn(tokens))
        return model.logits(model.decoder.norm(tokens)[:, None], self.absolute)

    def _token(self, place: int, x: Tensor, previous: Tensor) -> Tensor:
        """As `LaneLM.answer_tokens`: (N, D)."""
        model, here, referred = self.model, self.here[place], self.referred[place]
        if not model.config.sees_past:
            x = here
        straight = x + (x - previous if place and model.config.sees_past else self.drift[place])
        reference = self.reference[place]
        apart = [straight - reference, x - here]
        if self.all_referred:
            facts = torch.stack([*apart, self.nothing, self.nothing], dim=-1)
        else:
            apart = [part * referred for part in apart]
            apart += [(at[place] - straight) * lost[place] for at, lost in self.prompts]
            facts = torch.stack(apart, dim=-1)
        moving = [(facts / model.offset_range).clamp(-4, 4)]
        if model.config.local_sampling:
            grid = model.sampler.moved(self.grids[place], straight)
            moving.insert(0, model.sampler.sample(self.scene.maps, grid))
        tokens = self.tokens[place] + model.embedding.x_embedding(model.x_tokens(x)).flatten(0, 1)
        tokens = tokens + self.weights.straight(torch.cat(moving, dim=-1)).flatten(0, 1)
        if model.config.local_sampling and not self.all_referred:
            tokens = tokens + self.weights.reference(moving[0] * ~referred[..., None]).flatten(0, 1)
        return tokens


def folded_image_encoders(model: LaneLM) -> nn.ModuleList:
    """What makes every layer's `Visual` of its pyramid level: keys and values, or features where heads are wider."""
    encoder, made = model.visual_encoder, []
    for layer, level in zip(model.decoder.stack, model.seen, strict=True):
        number = level - model.seen[-1]
        project, attention = encoder.project[number], layer.cross_attn
        assert isinstance(project, nn.Conv2d)
        assert attention is not None
        wide = project.out_channels // attention.num_heads >= project.in_channels
        stride = FINEST_STRIDE << level
        size = (model.height // stride, model.width // stride)
        kind = FoldedAttention if wide else FoldedMemory
        made.append(kind(attention, project, encoder.level_embedding[number], size))
    return nn.ModuleList(made)


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A Linear of these values, without gradient."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach(), False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), False)
    return made


def product(*linears: nn.Linear) -> nn.Linear:
    """The outputs of several Linears of the same input, one after the other."""
    return linear(torch.cat([one.weight for one in linears]), torch.cat([one.bias for one in linears]))
