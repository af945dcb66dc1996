"""Training of the fovea: it learns to move lanes onto paint, the rest is unchanged, a resumed run ends the same."""

import pytest
import torch

from clrernetlm.core.errors import UserError
from clrernetlm.training.feature_cache import feature_cache
from clrernetlm.training.fovea_data_module import ANSWERS, FoveaTrainingDataset
from clrernetlm.training.train import build_fovea_training, train
from clrernetlm.weights.build_models import build_lanelm, init_lanelm, save_lanelm
from clrernetlm.weights.checkpoint import load_weights
from tests.helpers.drawn_roads import write_drawn_roads
from tests.helpers.metrics_file import logged
from tests.helpers.small_lanelm import small_lanelm_config, write_detector


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    return write_drawn_roads(tmp_path_factory.mktemp("roads"), 8)


@pytest.fixture(scope="module")
def lanelm(roads, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lanelm")
    detector = write_detector(folder / "detector.pth")
    config = small_lanelm_config(roads, folder, detector)
    torch.manual_seed(0)
    model = build_lanelm(config)
    load_weights(model.detector, detector)
    save_lanelm(model, folder / "lanelm.pth")
    return folder / "lanelm.pth"


def fovea_config(roads, work_dir, lanelm, **training):
    config = small_lanelm_config(roads, work_dir, lanelm, **training)
    config.lanelm.detector = None
    config.lanelm.network.fovea, config.lanelm.network.fovea_dim, config.lanelm.network.fovea_layers = True, 32, 1
    config.lanelm.cache, config.lanelm.cached_augmentations = str(work_dir / "cache"), 2
    config.training.init_from = str(lanelm)
    config.data.batch_size = 4
    return config


def test_the_fovea_learns_and_the_rest_is_unchanged(roads, lanelm, tmp_path):
    config = fovea_config(roads, tmp_path, lanelm, epochs=12, log_every=1, learning_rate=5e-3)
    config.training.validate_every = 12
    checkpoint = train(config)
    losses = logged(tmp_path, "train/loss_offset")
    assert sum(losses[-4:]) < 0.75 * sum(losses[:4])
    trained = init_lanelm(config, checkpoint)
    plain = small_lanelm_config(roads, tmp_path, lanelm)
    before = init_lanelm(plain, lanelm)
    for part in ("detector", "lanelm"):
        old, new = getattr(before, part).state_dict(), getattr(trained, part).state_dict()
        assert all(torch.equal(value, new[name]) for name, value in old.items())


def test_a_resumed_training_ends_with_the_same_weights(roads, lanelm, tmp_path):
    whole = fovea_config(roads, tmp_path / "whole", lanelm, epochs=3, schedule="constant")
    parts = fovea_config(roads, tmp_path / "parts", lanelm, epochs=3, schedule="constant")
    for config in (whole, parts):
        config.lanelm.cache = str(tmp_path / "cache")
        config.training.validate_every = 0
    through = init_lanelm(whole, train(whole)).state_dict()
    parts.training.max_steps = 3
    train(parts)
    parts.training.max_steps = -1
    resumed = init_lanelm(parts, train(parts, resume=True)).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in through.items())


def test_an_item_depends_on_the_seed_the_epoch_and_its_index_only(roads, lanelm, tmp_path):
    config = fovea_config(roads, tmp_path, lanelm)
    config.training.validate_every = 0
    module, data = build_fovea_training(config)
    module.init_weights(data)
    first, second = FoveaTrainingDataset(config), FoveaTrainingDataset(config)
    for dataset in (first, second):
        dataset.cache = feature_cache(config, dataset.images, module.model, values=ANSWERS)
    for epoch in (0, 3):
        first.set_epoch(epoch)
        second.set_epoch(epoch)
        second[5]
        for name, value in first[2].items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value.nan_to_num(), second[2][name].nan_to_num()), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: setattr(c.training, "init_from", None), "training.init_from: not set"),
        (lambda c: setattr(c.lanelm, "cache", None), "lanelm.cache"),
        (lambda c: setattr(c.lanelm, "cached_augmentations", 0), "lanelm.cached_augmentations"),
        (lambda c: setattr(c.lanelm, "variant", "plain"), "lanelm.network.fovea: lanelm.variant plain"),
    ],
)
def test_settings_with_which_no_fovea_can_train_are_refused(change, message, roads, lanelm, tmp_path):
    config = fovea_config(roads, tmp_path, lanelm)
    config.training.validate_every = 0
    change(config)
    with pytest.raises(UserError, match=message):
        train(config)
