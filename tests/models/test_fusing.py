"""Fused models: the same outputs as the unfused ones."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from clrernetlm.core.errors import UserError
from clrernetlm.models.backbones.registry import BACKBONES
from clrernetlm.models.fusing import fuse
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.weights.build_models import build_lanelm
from tests.helpers.small_detector import seeded_detector
from tests.helpers.small_lanelm import config_of


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_fused_model_gives_the_outputs_of_the_plain_model(backbone, images):
    model = seeded_detector(backbone)
    before = deepcopy(model.state_dict())
    fast = fuse(model)
    with torch.inference_mode():
        for plain, fused in zip(model(images), fast(images), strict=True):
            for name, value in plain.items():
                torch.testing.assert_close(fused[name], value, rtol=1e-5, atol=1e-5, msg=f"{backbone} {name}")
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules())
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items()), "the plain model has changed"


def test_half_precision_moves_predictions_a_little_and_leaves_them_float32(images):
    model = seeded_detector("dla46_c")
    fast = fuse(model, "bf16")
    with torch.inference_mode():
        plain, low = model(images)[-1], fast(images)[-1]
        assert all(level.dtype == torch.float32 for level in fast.extract_feat(images))
    assert all(value.dtype == torch.float32 for value in low.values())
    assert 0 < (low["xs"] - plain["xs"]).abs().max() < 0.01  # of the width


def test_unsupported_precisions_name_the_supported_ones():
    with pytest.raises(UserError, match="use fp32, bf16, fp16"):
        fuse(seeded_detector("dla46_c"), "int4")
    with pytest.raises(UserError, match="use bf16"):
        fuse(seeded_detector("dla46_c"), "fp16")


def test_a_fused_lanelm_decodes_the_same_lanes():
    torch.manual_seed(0)
    plain = build_lanelm(config_of()).eval()
    assert isinstance(plain, PromptableDetector)
    with torch.no_grad():
        plain.lanelm.head.proj_y.bias[-1] -= 4  # lanes end late
        plain.detector.bbox_head.reg_layers.bias[3] = 0.75  # and the detector's are long
    fast = fuse(plain)
    images = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        seen = plain.run_detector(images)
        mine, other = plain.decode_unprompted(seen), fast.decode_unprompted(seen)
    assert mine.visible.any()
    assert mine.visible.equal(other.visible)
    assert (mine.xs - other.xs)[mine.visible].abs().max() < 1e-3
    torch.testing.assert_close(mine.score, other.score, rtol=0, atol=1e-5)
