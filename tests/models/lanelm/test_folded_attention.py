"""Folded attention equals attention to the keys and values computed from the features."""

import pytest
import torch
from torch import nn

from clrernetlm.models.fusing import fuse
from clrernetlm.models.lanelm import folded_attention as folding
from clrernetlm.models.lanelm.attention import Attention
from clrernetlm.models.lanelm.folded_attention import FoldedAttention, FoldedKeysValues
from clrernetlm.models.lanelm.generate import generate
from clrernetlm.models.lanelm.image_encoder import VisualEncoder
from tests.helpers.lanelm_networks import random_levels, random_requests, same, small_lanelm

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


@pytest.mark.parametrize("scores", [1 << 18, 150])
@pytest.mark.parametrize(("dim", "heads", "channels"), [(32, 2, 16), (30, 3, 8), (64, 4, 24)])
@torch.no_grad()
def test_folded_attention_equals_attention_to_keys_and_values(
    dim: int, heads: int, channels: int, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "MAX_SCORES", scores)  # 150: few queries at once
    torch.manual_seed(0)
    attention, encoder = Attention(dim, heads), VisualEncoder(channels, dim, 1)
    for values in (*attention.parameters(), *encoder.parameters()):
        values.copy_(torch.randn(values.shape) / values.shape[-1] ** 0.5)
    features, queries = torch.randn(2, channels, 5, 7), torch.randn(2, 9, dim)
    project = encoder.project[0]
    assert isinstance(project, nn.Conv2d)
    folded = FoldedAttention(attention, project, encoder.level_embedding[0], (5, 7))
    memory = attention.keys_values(encoder([features])[0])
    expected = attention(queries, *memory)
    torch.testing.assert_close(folded(features).attend(queries), expected)
    moved = features.roll(1, dims=-1)
    assert (folded(moved).attend(queries) - expected).abs().max() > 1e-3
    made = FoldedKeysValues(attention, project, encoder.level_embedding[0], (5, 7))(features)
    torch.testing.assert_close(made, memory)


@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("settings", [{}, {"num_layers": 2}, {"num_layers": 4}, {"autoregressive": False}], ids=str)
def test_a_folded_lanelm_decodes_the_same_lanes(settings: dict[str, object], heads: int) -> None:
    model, levels, requests = small_lanelm(num_heads=heads, **settings), random_levels(6), random_requests(6, 8)
    fast = fuse(model)
    assert fast.folded_image_encoders is not None
    kind = FoldedAttention if heads == 2 else FoldedKeysValues  # 16 channels and 32 numbers a token
    assert all(type(view) is kind for view in fast.folded_image_encoders)
    answers = generate(fast, levels, requests)
    same(answers, generate(model, levels, requests), requests.request_mask)
    same(answers, generate(fast, levels, requests, cached=False), requests.request_mask)
