"""Layers for the CPU: the values of the plain ones, in fewer operations."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from clrernetlm.models.backbones import BACKBONES
from clrernetlm.models.efficientnet_lite import SameConv2d
from clrernetlm.models.fusing import fuse
from clrernetlm.models.onednn import NONE, RELU, RELU6, PackedConv2d, PackedLinear, join
from tests.models.test_fusing import worn


@pytest.mark.parametrize(("rows", "inside", "outside"), [(1, 8, 5), (3, 64, 64), (4, 512, 512), (700, 64, 96)])
def test_packed_products_are_the_plain_ones(rows, inside, outside):
    plain = nn.Linear(inside, outside)
    packed = PackedLinear(plain)
    x = torch.rand(rows, 2 * inside)[:, ::2][:, None]  # strided
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), plain(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [{"padding": 1}, {"stride": 2, "padding": 3}, {"groups": 4, "bias": False}])
def test_packed_convolutions_are_the_plain_ones_for_any_size_of_batch(settings, dtype):
    plain = nn.Conv2d(8, 12, 3, **settings).to(dtype)
    packed = PackedConv2d(plain)
    with torch.inference_mode():
        for images in (torch.rand(1, 8, 9, 12, dtype=dtype), torch.rand(3, 8, 20, 7, dtype=dtype)):
            torch.testing.assert_close(packed(images), plain(images))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_packed_convolutions_pad_as_tensorflow_does(kernel, stride):
    plain = SameConv2d(8, 8, kernel, stride, groups=8)
    images = torch.rand(2, 8, 12, 20)
    with torch.inference_mode():
        torch.testing.assert_close(PackedConv2d(plain)(images), plain(images))


@pytest.mark.parametrize(
    ("activation", "function", "adds"),
    [
        (NONE, torch.clone, False),
        (RELU, F.relu, False),
        (RELU6, F.relu6, False),
        (NONE, torch.clone, True),
        (RELU, F.relu, True),
    ],
)
def test_residual_and_activation_follow_the_convolution(activation, function, adds):
    plain = nn.Conv2d(4, 4, 3, padding=1)
    nn.init.normal_(plain.weight, std=2.0)
    images = torch.randn(2, 4, 6, 8)
    with torch.inference_mode():
        residual = torch.randn(2, 4, 6, 8) if adds else None
        expected = function(plain(images) + (residual if adds else 0.0))
        torch.testing.assert_close(PackedConv2d(plain, activation)(images, residual), expected)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_have_nothing_left_between_their_convolutions(backbone):
    fast = fuse(worn(backbone)).backbone
    left = {str(node.target) for node in fast.graph.nodes if node.op != "call_module"}
    assert not left & {"relu_", "add_", "add", str(F.relu6), "<built-in function add>"}
    assert any(layer.activation is not NONE for layer in fast.modules() if isinstance(layer, PackedConv2d))


def test_a_network_that_was_not_packed_stays_as_it_is():
    plain = worn("efficientnet_lite0").backbone
    assert join(plain) is plain


def test_a_result_that_others_need_keeps_its_activation_apart():
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = PackedConv2d(nn.Conv2d(4, 4, 3, padding=1))

        def forward(self, x):
            x = self.conv(x)
            return F.relu(x) - x

    fork, images = Fork(), torch.randn(1, 4, 5, 5)
    with torch.inference_mode():
        expected = fork(images)
        torch.testing.assert_close(join(fork)(images), expected)
    assert expected.abs().max() > 0
