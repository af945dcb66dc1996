import pytest
import torch
from torch.nn import functional as F

from clrernetlm.models.clrernet.head import gather_along, pool_along
from clrernetlm.models.clrernet.roi_gather import AnchorAttention, AnchorScale, PointsLinear, ROIGather


def gather(**changes) -> ROIGather:
    sizes = {"num_priors": 10, "channels": 8, "roi_channels": 4, "sample_points": 6, "stages": 3}
    return ROIGather(**(sizes | changes), attention_size=(3, 5), attention_dropout=0.1)


@pytest.mark.parametrize("pool", [pool_along, gather_along])
def test_pooling_samples_the_map_at_the_anchor(pool):
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(9.0), indexing="ij")
    level = torch.stack([rows, columns])[None]  # (1, 2, 5, 9): every pixel holds its own position
    xs, ys = torch.tensor([[[0.0, 0.5, 1.0], [0.25, 0.3, 0.1]]]), torch.tensor([1.0, 0.5, 0.0])
    pooled = pool(level, xs, ys)  # (1, 2, 3, 2)
    torch.testing.assert_close(pooled[0, 0], (ys * 4)[:, None].expand(3, 2))
    torch.testing.assert_close(pooled[0, 1], (xs[0] * 8).T)


@pytest.mark.parametrize("pool", [pool_along, gather_along])
def test_pooling_outside_the_map_is_zero(pool):
    assert pool(torch.ones(1, 2, 4, 4), torch.full((1, 3, 5), 2.0), torch.linspace(0, 1, 5)).abs().sum() == 0


def test_both_pooling_implementations_agree_inside_on_the_edge_and_outside():
    level = torch.randn(3, 8, 7, 11).contiguous(memory_format=torch.channels_last)
    xs, ys = torch.rand(3, 20, 9) * 1.6 - 0.3, torch.linspace(1, 0, 9)
    torch.testing.assert_close(gather_along(level, xs, ys), pool_along(level, xs, ys), rtol=0, atol=1e-5)


def test_the_fused_projection_equals_a_linear_layer():
    layer, points = PointsLinear(8, 6, 5), torch.rand(2, 8, 6, 10)
    expected = F.linear(points.flatten(1, 2).transpose(1, 2), layer.weight, layer.bias)
    torch.testing.assert_close(layer(points).transpose(1, 2), expected)
    torch.testing.assert_close(layer.convolution()(points).squeeze(2).transpose(1, 2), expected)


def test_anchor_scale_is_the_depthwise_convolution_it_stands_for():
    scale, x = AnchorScale(10), torch.rand(2, 10, 8)
    torch.testing.assert_close(scale(x), F.conv1d(x, scale.weight, scale.bias, groups=10))


def test_untrained_attention_adds_nothing():
    attention = AnchorAttention(10, 8, (3, 5))
    assert attention(torch.rand(2, 10, 8), torch.rand(2, 8, 6, 10)).abs().sum() == 0


def test_resizing_before_the_key_changes_nothing_in_eval_mode():
    attention = AnchorAttention(10, 8, (3, 5)).eval()
    torch.nn.init.normal_(attention.W.weight)
    torch.nn.init.normal_(attention.f_key.bn.running_mean)
    anchors, level = torch.rand(2, 10, 8), torch.rand(2, 8, 6, 10)
    key = F.interpolate(attention.f_key(level), size=(3, 5)).flatten(2)
    value = F.interpolate(attention.f_value(level), size=(3, 5)).flatten(2).transpose(1, 2)
    expected = attention.W(torch.softmax(attention.f_query(anchors) @ key / 8**0.5, -1) @ value)
    torch.testing.assert_close(attention(anchors, level), expected)


def test_one_weighted_update_equals_the_repeated_ones_of_the_original():
    """Convolving the same values in every later stage updates the running statistics 3, 2 and 1 times."""
    module = gather().train()
    for stage in range(3):
        pooled = torch.rand(2, 8, 6, 10)
        repeated = torch.nn.BatchNorm2d(4).train()
        for _ in range(3 - stage):
            repeated(module.convs[stage].conv(pooled))
        module.points(stage, pooled)
        torch.testing.assert_close(module.convs[stage].bn.running_mean, repeated.running_mean)
        torch.testing.assert_close(module.convs[stage].bn.running_var, repeated.running_var)


def test_anchors_do_not_influence_each_other():
    module = gather().eval()
    pooled, level = torch.rand(1, 8, 6, 10), torch.rand(1, 8, 6, 10)
    other = pooled.clone()
    other[..., 3] = 0
    with torch.no_grad():
        before, after = (module([module.points(0, values)], level) for values in (pooled, other))
    changed = (before != after).any(-1)[0]
    assert changed.tolist() == [i == 3 for i in range(10)]
