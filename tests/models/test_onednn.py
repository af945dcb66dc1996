"""Layers for the CPU: the results of the plain ones, in fewer operations."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from clrernetlm.models.backbones.efficientnet_lite import SameConv2d
from clrernetlm.models.backbones.registry import BACKBONES
from clrernetlm.models.fusing import fuse
from clrernetlm.models.layers import NONE, RELU, RELU6
from clrernetlm.models.onednn import PackedConv2d, PackedLinear
from tests.helpers.small_detector import seeded_detector


@pytest.mark.parametrize(("rows", "inside", "outside"), [(1, 8, 5), (3, 64, 64), (4, 512, 512), (700, 64, 96)])
def test_packed_linears_equal_plain_linears(rows, inside, outside):
    plain = nn.Linear(inside, outside)
    packed = PackedLinear(plain)
    x = torch.rand(rows, 2 * inside)[:, ::2][:, None]  # strided
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), plain(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [{"padding": 1}, {"stride": 2, "padding": 3}, {"groups": 4, "bias": False}])
def test_packed_convolutions_equal_plain_ones_for_any_batch_size(settings, dtype):
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
def test_fused_residual_and_activation_equal_separate_ones(activation, function, adds):
    plain = nn.Conv2d(4, 4, 3, padding=1)
    nn.init.normal_(plain.weight, std=2.0)
    images = torch.randn(2, 4, 6, 8)
    with torch.inference_mode():
        residual = torch.randn(2, 4, 6, 8) if adds else None
        expected = function(plain(images) + (residual if adds else 0.0))
        torch.testing.assert_close(PackedConv2d(plain, activation)(images, residual), expected)


class Operations(TorchDispatchMode):
    """Records the names of the operations that run in this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_run_no_operation_between_their_convolutions(backbone):
    network = fuse(seeded_detector(backbone)).backbone
    with torch.no_grad(), Operations() as seen:
        network(torch.rand(1, 3, 96, 160))
    assert "_convolution_pointwise" in seen.names
    apart = {"relu", "relu_", "hardtanh", "hardtanh_", "add", "add_", "convolution", "native_batch_norm"}
    assert not seen.names & apart


@pytest.mark.parametrize("backbone", ["dla46_c", "efficientnet_lite0"])
def test_fusing_does_not_patch_module_calls_of_other_threads(backbone, monkeypatch):
    """torch.fx replaces `nn.Module.__call__` while it traces, for the whole process."""
    calls = []
    monkeypatch.setattr(torch.fx.Tracer, "trace", lambda *_, **__: calls.append(1))
    with torch.inference_mode():
        fuse(seeded_detector(backbone))(torch.rand(1, 3, 96, 160))
    assert not calls


def test_threads_share_a_network_from_the_first_image_on():
    """The first image converts the weights to oneDNN's layout, which must be safe with several threads."""
    images = torch.rand(1, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    plain = seeded_detector("dla46_c")
    expected = fuse(plain)(images)[-1]["xs"]
    start = Barrier(8)

    def run(network):
        start.wait(60)
        with torch.inference_mode():
            return network(images)[-1]["xs"]

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for found in pool.map(run, [fuse(plain)] * 8):
                torch.testing.assert_close(found, expected, rtol=0, atol=0)
