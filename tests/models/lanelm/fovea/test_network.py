"""The fovea's network: contrast and brightness change little, lanes do not see each other, heads divide the width."""

import pytest
import torch

from clrernetlm.core.errors import UserError
from clrernetlm.models.lanelm.fovea.losses import FoveaTargets, fovea_losses
from clrernetlm.models.lanelm.fovea.network import (
    LANE_FEATURES,
    OFFSETS,
    ROW_FEATURES,
    Fovea,
    FoveaInput,
    normalise_patches,
)
from clrernetlm.models.lanelm.fovea.patches import COLUMNS

STEPS = 12


def given(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return FoveaInput(
        torch.randint(0, 256, (count, 2 * STEPS, COLUMNS, 3), generator=generator, dtype=torch.uint8),
        torch.randn(count, STEPS, ROW_FEATURES, generator=generator),
        torch.randn(count, LANE_FEATURES, generator=generator),
    )


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Fovea(STEPS, dim=32, layers=2, heads=4).eval()


def targets_of(count, **changes):
    exists = torch.ones(count).bool()
    values = {
        "offset": torch.zeros(count, STEPS),
        "on_lane": torch.ones(count, 2 * STEPS).bool(),
        "seen": torch.ones(count, STEPS, dtype=torch.int8),
        "lane": exists,
        "type": torch.zeros(count, dtype=torch.int64),
        "colour": torch.zeros(count, dtype=torch.int64),
        "usable": exists,
    }
    return FoveaTargets(**(values | changes))


def test_a_lane_is_read_alike_alone_and_in_a_batch(network):
    inputs = given(5)
    with torch.no_grad():
        together = network(inputs)
        alone = network(FoveaInput(inputs.patches[3:4], inputs.rows[3:4], inputs.lane[3:4]))
    for name in together.__dataclass_fields__:
        torch.testing.assert_close(getattr(together, name)[3:4], getattr(alone, name), atol=1e-5, rtol=1e-4)


def test_no_lane_gives_an_output_of_no_lane(network):
    with torch.no_grad():
        output = network(given(0))
    assert output.offset.shape == (0, STEPS, OFFSETS)
    assert output.mean_offset().shape == (0, STEPS)


def test_the_mean_offset_lies_within_the_patch_and_keeps_its_precision_in_mixed_precision(network):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = network(given(4))
        mixed = output.mean_offset()
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, output.mean_offset())
    assert mixed.abs().max() <= 1


def test_brightness_and_contrast_of_a_patch_are_removed():
    pixels = given(1).patches
    dimmer = (pixels.float() * 0.5 + 20).round().to(torch.uint8)
    assert (normalise_patches(pixels) - normalise_patches(dimmer)).abs().max() < 0.25
    flat = torch.full_like(pixels, 77)
    assert normalise_patches(flat).abs().max() < 1e-4


def test_rows_stand_alone_without_layers():
    torch.manual_seed(0)
    network = Fovea(STEPS, dim=32, layers=0, heads=4).eval()
    inputs, other = given(1), given(1)
    other.rows[:, 9] += 1.0
    with torch.no_grad():
        one, two = network(inputs).offset, network(other).offset
    changed = (one != two).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [9]


def test_rows_off_the_lane_lanes_beyond_the_patch_and_unknown_words_teach_nothing(network):
    inputs = given(2)
    with torch.no_grad():
        output = network(inputs)
    far = torch.zeros(2, STEPS)
    far[:, 4], far[:, 5] = 7.0, torch.nan
    known = fovea_losses(output, targets_of(2, offset=far))
    far[:, 4] = -3.0
    assert torch.equal(fovea_losses(output, targets_of(2, offset=far))["loss_offset"], known["loss_offset"])
    unknown = torch.full((2,), -1)
    nothing = fovea_losses(output, targets_of(2, type=unknown, colour=unknown))
    assert nothing["loss_words"] == 0
    no_lane = fovea_losses(output, targets_of(2, lane=torch.zeros(2).bool()))
    assert no_lane["loss_offset"] == no_lane["loss_rows"] == no_lane["loss_words"] == 0
    assert no_lane["loss_lane"] > 0


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(UserError, match="fovea_dim: 30 is not a multiple of fovea_heads"):
        Fovea(STEPS, dim=30, layers=1, heads=4)
