from typing import get_args

import pytest

from clrernetlm.config import Config
from clrernetlm.config.overrides import apply_overrides
from clrernetlm.config.serialization import setting_types
from clrernetlm.config.validation import RULES, validate
from clrernetlm.core.errors import UserError


def test_every_number_has_a_range() -> None:
    numbers = {
        name
        for name, annotation in setting_types().items()
        if {annotation, *get_args(annotation)} & {int, float, tuple[int, int]} and ".viewport." not in name
    }
    assert numbers == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_no_number_may_be_nan_or_hugely_negative(name: str) -> None:
    config = Config()
    *groups, leaf = name.split(".")
    owner: object = config
    for group in groups:
        owner = getattr(owner, group)
    for value in (float("nan"), -1e9):
        setattr(owner, leaf, value)
        with pytest.raises(UserError, match=f"^{name}: .* out of range; use "):
            validate(config)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("data.batch_size=0", "data.batch_size: 0 is out of range; use 1 to 100000"),
        ("data.augmentation.flip=1.5", "data.augmentation.flip: 1.5 is out of range; use 0 to 1"),
        ("model.max_lanes=255", "model.max_lanes: 255 is out of range"),
        ("training.max_steps=0", "training.max_steps: 0 is out of range; use 1 to 1000000000, or -1"),
        ("training.ema_momentum=1", "training.ema_momentum: 1.0 is out of range"),
        ("data.augmentation.affine_scale=0,1", "data.augmentation.affine_scale: 0.0 1.0 is out of range"),
        ("data.augmentation.affine_scale=1.2,0.8", "write the smaller value first"),
        ("model.assigner.min_topk=9", "model.assigner.min_topk: 9 is more than model.assigner.max_topk = 4"),
        ("evaluation.thresholds=()", "evaluation.thresholds: empty"),
        ("evaluation.image_size=0,590", "evaluation.image_size: 0 590 is out of range"),
        ("training.device=gpu", "training.device: 'gpu' is unknown; use auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_messages_name_the_setting_and_its_range(word: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(apply_overrides(Config(), [word]))
    assert expected in str(caught.value)


@pytest.mark.parametrize("word", ["training.max_steps=-1", "training.clip_norm=None", "training.validate_every=0"])
def test_values_at_the_limits_are_accepted(word: str) -> None:
    validate(apply_overrides(Config(), [word]))
