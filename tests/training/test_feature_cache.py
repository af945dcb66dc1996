"""The feature cache changes only the speed: it is complete or absent, and belongs to its settings."""

import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from clrernetlm.config import AugmentationConfig
from clrernetlm.core.errors import UserError
from clrernetlm.datasets import collate
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.training.feature_cache import FILES, detector_features, feature_cache, find_damage, remove_unfinished
from clrernetlm.training.lanelm_data_module import LaneLMTrainingDataset
from clrernetlm.weights.checkpoint import load_weights
from tests.helpers.drawn_roads import write_drawn_roads
from tests.helpers.small_lanelm import small_lanelm_config, write_detector

IMAGES, VIEWS = 20, 2  # more than one batch of the builder


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_detector(tmp_path_factory.mktemp("detector") / "detector.pth")


@pytest.fixture
def config(detector, tmp_path):
    config = small_lanelm_config(write_drawn_roads(tmp_path / "roads", IMAGES), tmp_path / "run", detector)
    config.data.augmentation = AugmentationConfig()
    config.lanelm.cached_augmentations, config.lanelm.cache = VIEWS, str(tmp_path / "cache")
    return config


@pytest.fixture
def model(config, detector):
    model = PromptableDetector(config)
    load_weights(model.detector, detector)
    return model


def entries(config):
    return sorted(path.name for path in Path(config.lanelm.cache).iterdir() if path.suffix != ".lock")


def test_requests_from_the_cache_equal_those_from_the_images(config, model):
    plain, kept = LaneLMTrainingDataset(config), LaneLMTrainingDataset(config)
    kept.cache = feature_cache(config, kept.images, model)
    for epoch in (0, 1, 2):
        for dataset in (plain, kept):
            dataset.set_epoch(epoch)
        fresh, stored = (collate([dataset[index] for index in (0, 7, 19)]) for dataset in (plain, kept))
        fresh |= detector_features(model, fresh.pop("inputs"))
        assert stored["proposal_shown"].any()
        for name, value in stored.items():
            if name == "metainfo":
                continue
            # Both are rounded to half precision; batches of another size may round the last bit the other way.
            tolerance = 2e-3 if name.startswith(("level", "proposal")) else 0
            torch.testing.assert_close(value, fresh[name], equal_nan=True, rtol=tolerance, atol=tolerance)
    third = kept[0]
    kept.set_epoch(0)  # the same augmentation again, with other training requests
    assert torch.equal(kept[0]["level_0"], third["level_0"])
    assert not torch.equal(kept[0]["draws"], third["draws"])


def test_cached_features_lose_only_half_precision_rounding(config, model):
    images = LaneLMTrainingDataset(config).images
    cache = feature_cache(config, images, model)
    images.set_epoch(1)
    inputs = collate([images[3]])["inputs"]
    levels = model.run_detector(inputs.float() / 255).levels
    item = cache.read(1, 3)
    for number, level in enumerate(levels):
        assert item[f"level_{number}"].dtype == torch.float16
        torch.testing.assert_close(item[f"level_{number}"].float(), level[0], rtol=1e-3, atol=1e-4)


def read_all(cache, keys):
    return [cache.read(*key) for key in keys]


def test_an_existing_cache_is_reused_and_readable_by_workers(config, model, monkeypatch):
    images = LaneLMTrainingDataset(config).images
    cache = feature_cache(config, images, model)
    expected = cache.read(1, 19)
    monkeypatch.setattr("clrernetlm.training.feature_cache.build_cache", None)
    again = feature_cache(config, images, model)
    sent = pickle.dumps(again)  # as to a spawned worker
    assert len(sent) < 1000
    for reader in (again, pickle.loads(sent)):
        item = reader.read(1, 19)
        assert item.keys() == expected.keys()
        assert all(torch.equal(item[name], expected[name]) for name in item if name.startswith(("level", "proposal")))
    loader = torch.utils.data.DataLoader(
        [(0, 1), (1, 19)],
        collate_fn=partial(read_all, again),
        num_workers=1,
        multiprocessing_context="spawn",  # a fork of a process in which other tests have left threads may crash
    )
    assert torch.equal(list(loader)[1][0]["level_0"], expected["level_0"])


def test_other_settings_use_another_cache(config, model):
    images = LaneLMTrainingDataset(config).images
    first = feature_cache(config, images, model).folder
    config.lanelm.training_requests.proposal_threshold = 0.2
    assert feature_cache(config, images, model).folder != first
    config.lanelm.training_requests.proposal_threshold = 0.03
    assert feature_cache(config, images, model).folder == first
    label = next(Path(config.data.root).glob("driver_1/*/*00003.lines.txt"))
    label.write_text("".join(label.read_text().splitlines(keepends=True)[:1]))
    relabelled = feature_cache(config, images, model)
    assert relabelled.folder != first
    assert np.isfinite(relabelled.read(0, 3)["lane_xs"]).any(-1).sum() == 1
    with torch.no_grad():
        model.detector.bbox_head.cls_layers.bias += 0.1
    assert feature_cache(config, images, model).folder not in (first, relabelled.folder)
    assert len(entries(config)) == 4


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def of_one_row(path):
    np.save(path, np.load(path)[:1])


def write_archive(path):
    with zipfile.ZipFile(path, "w") as archive:  # which numpy takes for an .npz file
        archive.writestr("data.npy", b"")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (Path.unlink, "is missing"),
        (cut, "is cut short or overwritten"),
        (lambda path: path.write_bytes(b""), "is cut short or overwritten"),
        (lambda path: path.write_bytes(b"not numpy"), "is cut short or overwritten"),
        (write_archive, "is cut short or overwritten"),
        (lambda path: np.save(path, np.array([print] * 40)), "is cut short or overwritten"),
        (of_one_row, "has 1 rows instead of 40"),
        (lambda path: np.save(path, np.zeros((40, 0), np.float16)), "holds float16 of shape (0,), which is not what"),
        (lambda path: np.save(path, np.zeros((40, 2))), "holds float64 of shape (2,), which is not what the model"),
    ],
)
def test_a_damaged_cache_is_detected(tmp_path, harm, said):
    for name in FILES:
        np.save(tmp_path / f"{name}.npy", np.zeros((40, 2), np.float16))
    row = dict.fromkeys(FILES, np.zeros((1, 2), np.float16))
    assert find_damage(tmp_path, 40, row) is None
    for name in ("level_1", "proposal_xs", "lane_tokens_y"):
        path = tmp_path / f"{name}.npy"
        whole = path.read_bytes()
        harm(path)
        assert find_damage(tmp_path, 40, row).startswith(f"{name}.npy {said}")
        path.write_bytes(whole)


def test_a_damaged_cache_is_computed_again(config, model):
    images = LaneLMTrainingDataset(config).images
    cache = feature_cache(config, images, model)
    cut(cache.folder / "level_0.npy")
    with pytest.warns(UserWarning, match=r"damaged \(level_0\.npy is cut short or overwritten\); computing the feat"):
        again = feature_cache(config, images, model)
    assert again.folder == cache.folder
    assert again.read(VIEWS - 1, IMAGES - 1)["level_0"].any()
    assert entries(config) == [cache.folder.name]


def test_other_files_in_the_cache_folder_change_nothing(config, model, tmp_path):
    images = LaneLMTrainingDataset(config).images
    cache = feature_cache(config, images, model)
    names = cache.read(0, 0).keys()
    np.save(cache.folder / "another.npy", np.zeros(0))
    own = tmp_path / "own.txt"
    own.write_text("mine")
    lock = cache.folder.with_suffix(".lock")
    again = feature_cache(config, images, model)
    assert again.read(VIEWS - 1, IMAGES - 1).keys() == names
    lock.unlink()
    lock.symlink_to(own)
    with pytest.raises(UserError, match="features cannot be written"):
        feature_cache(config, images, model)
    assert own.read_text() == "mine"


KILLED = """
import os, signal, sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from clrernetlm.config import from_dict
from clrernetlm.training import feature_cache
from clrernetlm.training.lanelm_data_module import LaneLMTrainingDataset
from clrernetlm.weights.checkpoint import load_weights
from clrernetlm.models.lanelm.detector import PromptableDetector
config = from_dict({config!r})
model = PromptableDetector(config)
load_weights(model.detector, config.lanelm.detector)
observe, batches = feature_cache.detector_features, []
def until_killed(*arguments):
    batches.append(0)
    if len(batches) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return observe(*arguments)
feature_cache.detector_features = until_killed
feature_cache.feature_cache(config, LaneLMTrainingDataset(config).images, model)
"""


def test_a_killed_build_leaves_no_complete_cache(config, model, tmp_path):
    from clrernetlm.config import to_dict

    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(repository=str(Path(__file__).parents[2]), config=to_dict(config)))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    code = subprocess.run([sys.executable, str(script)], env=environment, timeout=200, check=False).returncode
    assert code == -signal.SIGKILL
    (left,) = entries(config)
    assert left.endswith(".part")
    images = LaneLMTrainingDataset(config).images
    cache = feature_cache(config, images, model)
    assert entries(config) == [cache.folder.name] == [left.removesuffix(".part")]
    rebuilt = cache.read(VIEWS - 1, IMAGES - 1)
    shutil.rmtree(config.lanelm.cache)
    fresh = feature_cache(config, images, model).read(VIEWS - 1, IMAGES - 1)
    assert rebuilt["level_0"].any()
    assert all(torch.equal(rebuilt[name], fresh[name]) for name in fresh if name.startswith(("level", "proposal")))


def test_a_full_disk_is_a_one_line_error_and_leaves_nothing(config, model, monkeypatch):
    images = LaneLMTrainingDataset(config).images
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))  # the system now refuses larger files
    try:
        with pytest.raises(UserError, match=r"^[^\n]*: features cannot be written \(File too large\); free space"):
            feature_cache(config, images, model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert entries(config) == []
    usage = shutil.disk_usage(config.data.root)._replace(free=1_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"features need 0\.0 GB, 0\.0 GB are free"):
        feature_cache(config, images, model)
    assert entries(config) == []


def test_features_stay_within_cache_limit(config, model):
    images = LaneLMTrainingDataset(config).images
    one_view = sum(array.nbytes for array in feature_cache(config, images, model).arrays.values()) / VIEWS / 1e9
    shutil.rmtree(config.lanelm.cache)
    config.lanelm.cache_limit = 1.5 * one_view
    with pytest.raises(
        UserError, match=r"^lanelm\.cache_limit: .* raise it, or lower lanelm\.cached_augmentations to 1$"
    ):
        feature_cache(config, images, model)
    assert entries(config) == []
    config.lanelm.cache_limit = 0.5 * one_view
    with pytest.raises(UserError, match=r"or set lanelm\.cache=None$"):
        feature_cache(config, images, model)
    config.lanelm.cached_augmentations, config.lanelm.cache_limit = 1, 1.1 * one_view
    assert feature_cache(config, images, model).read(0, IMAGES - 1)["level_0"].any()


def test_new_augmentations_of_every_epoch_cannot_be_cached(config, model):
    config.lanelm.cached_augmentations = 0
    with pytest.raises(UserError, match=r"set lanelm\.cached_augmentations to 1 or more"):
        feature_cache(config, LaneLMTrainingDataset(config).images, model)
    config.lanelm.cache = None
    assert feature_cache(config, LaneLMTrainingDataset(config).images, model) is None


def test_temporary_files_of_other_programs_stay(config, model):
    cache = Path(config.lanelm.cache)
    (cache / "clips.part").mkdir(parents=True)
    (cache / "clips.part/a.jpg").write_text("precious")
    (cache / "clips.lock").write_text("precious")
    (cache / "0123456789abcdef.part").mkdir()
    remove_unfinished(cache)
    assert not (cache / "0123456789abcdef.part").exists()
    assert (cache / "clips.part/a.jpg").read_text() == (cache / "clips.lock").read_text() == "precious"
