"""The decoder's classes: shapes, masks, and images shared without copies."""

import pytest
import torch

from clrernetlm import UserError
from clrernetlm.models.lanelm import KeypointEmbedding, LaneLMDecoder, LaneLMHead, LaneLMModel


def tokens(lanes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 50, (lanes, 8), generator=g), torch.randint(0, 9, (lanes, 8), generator=g)


@pytest.fixture
def model() -> LaneLMModel:
    torch.manual_seed(0)
    return LaneLMModel(
        nbins_x=50, max_y_tokens=9, embed_dim=32, num_layers=2, num_heads=4, ffn_dim=64, max_seq_len=8, visual_in_dim=24
    ).eval()


def visual_tokens(batch: int, count: int = 10) -> torch.Tensor:
    return torch.randn(batch, count, 24, generator=torch.Generator().manual_seed(1))


def test_shapes_of_the_defaults() -> None:
    logits_x, logits_y = LaneLMModel()(torch.zeros(1, 5, 256), *torch.zeros(2, 3, 40, dtype=torch.int64))
    assert logits_x.shape == (3, 40, 800)
    assert logits_y.shape == (3, 40, 41)


def test_a_token_changes_only_later_outputs(model: LaneLMModel) -> None:
    x, y = tokens(3)
    before = model(visual_tokens(1), x, y)
    for place in range(8):
        changed = x.clone()
        changed[:, place] = (changed[:, place] + 17) % 50
        for old, new in zip(before, model(visual_tokens(1), changed, y), strict=True):
            torch.testing.assert_close(new[:, :place], old[:, :place], rtol=0, atol=1e-6)
            assert ((new[:, place:] - old[:, place:]).abs().amax((0, 2)) > 1e-4).all()


def test_masked_visual_tokens_have_no_influence(model: LaneLMModel) -> None:
    x, y = tokens(2)
    image = visual_tokens(2)
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[:, 6:] = True
    changed = image.clone()
    changed[:, 6:] = 100
    for hidden, cut in zip(model(changed, x, y, mask), model(image[:, :6], x, y), strict=True):
        torch.testing.assert_close(hidden, cut, rtol=0, atol=1e-5)
    assert not torch.allclose(model(changed, x, y)[0], model(image, x, y)[0], atol=1e-3)


def test_lanes_that_share_an_image_equal_lanes_with_a_copy_each(model: LaneLMModel) -> None:
    x, y = tokens(6)
    image = visual_tokens(2)
    mask = torch.rand(2, 10, generator=torch.Generator().manual_seed(2)) < 0.3
    shared = model(image, x, y, mask)
    copied = model(image.repeat_interleave(3, 0), x, y, mask.repeat_interleave(3, 0))
    for a, b in zip(shared, copied, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_each_layer_attends_to_its_level() -> None:
    torch.manual_seed(0)
    decoder = LaneLMDecoder(32, 2, 4, 64).eval()
    sequence, coarse, fine = torch.randn(3, 5, 32), torch.randn(1, 4, 32), torch.randn(1, 9, 32)
    out = decoder(sequence, [coarse, fine])
    assert not torch.allclose(out, decoder(sequence, [fine, coarse]), atol=1e-3)
    torch.testing.assert_close(decoder(sequence, [fine, fine]), decoder(sequence, fine))
    assert decoder(sequence, None).shape == sequence.shape


def test_a_keypoint_is_the_sum_of_its_embeddings() -> None:
    embedding = KeypointEmbedding(50, 9, 31, 8)
    x, y = tokens(3)
    summed = embedding.x_embedding.weight[x] + embedding.y_embedding.weight[y]
    torch.testing.assert_close(embedding(x, y), summed + embedding.pos_embedding.weight[:8])
    late = embedding(x[:, :2], y[:, :2], torch.tensor([5, 6]))
    torch.testing.assert_close(late, summed[:, :2] + embedding.pos_embedding.weight[5:7])


def test_neighbouring_bins_have_similar_initial_embeddings() -> None:
    table = KeypointEmbedding(800, 41, 64, 40).x_embedding.weight
    distance = (table - table[400]).norm(dim=1)
    assert distance[401] < distance[410] < distance[500]


def test_both_heads_use_the_same_hidden_state() -> None:
    head = LaneLMHead(32, 50, 9)
    states = torch.randn(2, 8, 32)
    logits_x, logits_y = head(states)
    torch.testing.assert_close(logits_x, head.proj_x(states))
    torch.testing.assert_close(logits_y, head.proj_y(states))


def test_heads_must_divide_the_embedding() -> None:
    with pytest.raises(UserError, match="embed_dim: 30 is not a multiple of num_heads"):
        LaneLMModel(embed_dim=30, num_heads=4)
