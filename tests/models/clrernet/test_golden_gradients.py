"""Network and criterion together: losses and the gradient of every parameter, against the published implementation."""

import numpy as np
import pytest
import torch
from torch import nn

from clrernetlm.config import ClrernetConfig
from clrernetlm.models.clrernet.criterion import CLRerNetCriterion
from clrernetlm.models.clrernet.detector import CLRerNet
from tests.helpers.golden_weights import GOLDEN, golden_image, golden_state

LOSSES = ("loss_cls", "loss_reg_xytl", "loss_iou", "loss_seg")


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "b_forward_loss.npz")


@pytest.mark.parametrize("case", ["eval_3_4", "train_3_4"])
def test_losses_and_gradients_are_the_published_ones(golden, case):
    mode, *lanes = case.split("_")
    model = CLRerNet(ClrernetConfig())
    model.load_official_state_dict(golden_state(model.official_state_dict()))
    model.train(mode == "train")
    for layer in model.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    criterion = CLRerNetCriterion(max_lanes=4, length_target="official")
    targets = torch.from_numpy(np.stack([golden[f"target{count}"] for count in lanes]))
    masks = torch.from_numpy(np.stack([golden[f"mask{count}"] for count in lanes]))

    features = model.extract_feat(golden_image(2, 2))
    losses = criterion(model.bbox_head(features), targets, model.segment(features), masks)
    # Batch statistics amplify rounding, in the golden numbers as in ours.
    tolerance = 1e-5 if mode == "eval" else 1e-4
    for name in LOSSES:
        assert losses[name].item() == pytest.approx(float(golden[f"{case}_{name}"]), rel=tolerance), name

    sum(losses.values()).backward()
    parameters = dict(model.named_parameters())
    for name, norm in zip(golden["grad_names"], golden[f"{case}_gradnorm"], strict=True):
        gradient = parameters[str(name)].grad
        if np.isnan(norm):
            assert gradient is None or gradient.abs().max() == 0, name
        else:
            assert gradient.double().norm().item() == pytest.approx(norm, rel=100 * tolerance, abs=1e-6), name
