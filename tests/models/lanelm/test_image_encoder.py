"""Image features of LaneLM: sampled at the right pixel; attention is equal in both implementations."""

import pytest
import torch
import torch.nn.functional as F

from clrernetlm.models.lanelm import attention
from clrernetlm.models.lanelm.attention import grid_sinusoids, sinusoids
from clrernetlm.models.lanelm.image_encoder import ChannelNorm, LocalSampler, VisualEncoder
from tests.helpers.lanelm_networks import CHANNELS, SIZE, random_levels


def sampler(points: int, spacing: float) -> LocalSampler:
    torch.manual_seed(0)
    return LocalSampler(CHANNELS, SIZE, 3, points, spacing)


def test_sampling_the_centre_of_a_cell_gives_its_features() -> None:
    local = sampler(3, 8.0)
    maps = local.maps(random_levels(2))
    # Stride 8: the pixels of cell (row 2, column 5) are 40..47 and 16..23, their middle is 43.5, 19.5.
    found = local(maps, torch.tensor([43.5, 19.5]).expand(2, 1, 2))[:, 0].unflatten(-1, (-1, local.REDUCED))
    for offset in range(3):
        torch.testing.assert_close(found[:, offset], maps[0][:, :, 2, 4 + offset])
    coarse = local(maps, torch.tensor([7.5, 39.5]).expand(2, 1, 2))[:, 0].unflatten(-1, (-1, local.REDUCED))
    torch.testing.assert_close(coarse[:, 3], maps[1][:, :, 2, 0])


def test_samples_outside_the_image_are_zero() -> None:
    local = sampler(1, 1.0)
    places = torch.tensor([[-60.0, 20.0], [300.0, 20.0], [20.0, -60.0], [20.0, 200.0]])
    assert local(local.maps(random_levels(1)), places[None]).abs().max() == 0


def test_any_number_of_positions_can_be_sampled() -> None:
    local = sampler(5, 4.0)
    maps = local.maps(random_levels(2))
    places = torch.rand(2, 3, 4, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(SIZE)
    found = local(maps, places)
    assert found.shape == (2, 3, 4, local.out_features)
    torch.testing.assert_close(found[:, 1, 2], local(maps, places[:, 1, 2:3])[:, 0])


def test_tokens_encode_their_position_and_level() -> None:
    torch.manual_seed(0)
    encoder = VisualEncoder(CHANNELS, 32, 3)
    flat = [torch.ones_like(level) for level in random_levels(2)]
    tokens = encoder(flat)
    assert [t.shape for t in tokens] == [(2, 128, 32), (2, 32, 32), (2, 8, 32)]
    assert torch.cdist(tokens[0][0], tokens[0][0]).fill_diagonal_(1).min() > 1e-3  # same features, other places


def test_normed_features_have_mean_0_and_deviation_1_at_every_place() -> None:
    normed = ChannelNorm(CHANNELS)(7 * random_levels(1)[0] + 3)
    torch.testing.assert_close(normed.mean(1), torch.zeros(1, 8, 16), rtol=0, atol=1e-5)
    torch.testing.assert_close(normed.std(1, correction=0), torch.ones(1, 8, 16), rtol=0, atol=1e-3)


@pytest.mark.parametrize("dim", [6, 7, 32])
def test_sines_and_cosines_of_any_width(dim: int) -> None:
    assert sinusoids(torch.linspace(0, 1, 5), dim).shape == (5, dim)
    grid = grid_sinusoids(3, 4, dim)
    assert grid.shape == (12, dim)
    assert len(grid.unique(dim=0)) == 12


@pytest.mark.parametrize("masked", [False, True])
def test_explicit_and_fused_attention_are_the_same(masked: bool) -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, n, 8, generator=g) for n in (5, 9, 9))
    mask = (torch.rand(2, 1, 5, 9, generator=g) < 0.7) | (torch.arange(9) == 0) if masked else None
    explicit = attention.attend(q, k, v, mask)  # with gradients, on a CPU
    with torch.no_grad():
        fused = attention.attend(q, k, v, mask)
    torch.testing.assert_close(explicit, fused, rtol=0, atol=1e-5)
    torch.testing.assert_close(fused, F.scaled_dot_product_attention(q, k, v, mask))
