"""Gradients of depth-wise convolutions equal PyTorch's."""

import pytest
import torch
from torch.nn import functional as F

from clrernetlm.models.backbones.depthwise import depthwise_conv2d
from clrernetlm.models.backbones.efficientnet_lite import SameConv2d, conv_norm

CASES = [(kernel, stride) for kernel in (3, 5, 7) for stride in (1, 2)]


def gradients(convolve, x, weight, bias):
    leaves = [value.detach().clone().requires_grad_() for value in (x, weight, bias)]
    out = convolve(*leaves)
    out.square().sum().backward()
    return out, *(leaf.grad for leaf in leaves)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kernel", "stride"), CASES)
def test_gradients_are_those_of_pytorch(kernel, stride, layout):
    torch.manual_seed(kernel + stride)
    x = torch.randn(2, 8, 13, 18).contiguous(memory_format=layout)
    weight, bias = torch.randn(8, 1, kernel, kernel), torch.randn(8)
    ours = gradients(lambda *given: depthwise_conv2d(*given, stride), x, weight, bias)
    theirs = gradients(lambda *given: F.conv2d(*given, stride, groups=8), x, weight, bias)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("kernel", "stride"), CASES)
def test_in_bfloat16_gradients_are_right_to_its_precision(kernel, stride):
    torch.manual_seed(kernel + stride)
    x = torch.randn(2, 8, 13, 18).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(8, 1, kernel, kernel), torch.randn(8)

    def autocast(*given):
        with torch.autocast("cpu", torch.bfloat16):
            return depthwise_conv2d(*given, stride)

    ours = gradients(autocast, x, weight, bias)
    theirs = gradients(lambda *given: F.conv2d(*given, stride, groups=8), x, weight, bias)
    assert ours[0].dtype == torch.bfloat16
    for a, b in zip(ours, theirs, strict=True):
        assert (a.float() - b).norm() < 0.02 * b.norm()


def test_gradients_are_computed_only_where_required():
    x, weight = torch.randn(1, 4, 9, 9), torch.randn(4, 1, 5, 5, requires_grad=True)
    depthwise_conv2d(x, weight, None, 1).sum().backward()
    assert x.grad is None
    assert weight.grad is not None


@pytest.mark.parametrize("groups", [1, 8])
def test_a_norm_folded_into_the_convolution_equals_the_norm_after_it(groups):
    torch.manual_seed(groups)
    conv, norm = SameConv2d(8, 8, 3, 2, groups), torch.nn.BatchNorm2d(8)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(norm.weight)
    norm.eval()
    x = torch.randn(2, 8, 12, 16)
    conv_norm(conv, norm, x).square().sum().backward()
    ours = [value.grad.clone() for value in (conv.weight, norm.weight, norm.bias)]
    torch.testing.assert_close(conv_norm(conv, norm, x), norm(conv(x)), rtol=1e-5, atol=1e-5)
    conv.zero_grad()
    norm.zero_grad()
    norm(conv(x)).square().sum().backward()
    for a, b in zip(ours, (conv.weight.grad, norm.weight.grad, norm.bias.grad), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
