import torch
from torch.nn import functional as F

from clrernetlm.models.clrernet.fpn import CLRerNetFPN


def test_levels_keep_their_sizes_and_the_finest_extra_ones_are_left_out():
    neck = CLRerNetFPN((4, 8, 16), 6)
    levels = [torch.rand(2, channels, 32 // 2**i, 48 // 2**i) for i, channels in enumerate((3, 4, 8, 16))]
    out = neck(levels)
    assert [tuple(level.shape) for level in out] == [(2, 6, 16, 24), (2, 6, 8, 12), (2, 6, 4, 6)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(out, neck(levels[1:]), strict=True))


def test_coarse_levels_reach_the_finer_ones_by_nearest_upsampling():
    neck = CLRerNetFPN((1, 1), 1)
    for block in (*neck.lateral_convs, *neck.fpn_convs):
        torch.nn.init.dirac_(block.conv.weight)
    fine, coarse = torch.rand(1, 1, 4, 6), torch.rand(1, 1, 2, 3)
    out = neck([fine, coarse])
    torch.testing.assert_close(out[1], coarse)
    torch.testing.assert_close(out[0], fine + F.interpolate(coarse, scale_factor=2))
