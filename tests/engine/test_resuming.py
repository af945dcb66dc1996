"""A resumed training is the training that was never interrupted."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from clrernetlm.engine.checkpoints import last_checkpoint
from clrernetlm.engine.training import train
from tests.drawn_roads import write_drawn_roads
from tests.engine.small import small_config
from tests.engine.small_lanelm import small_lanelm, write_detector

REPOSITORY = Path(__file__).parents[2]
WORKERS = [0, 1, 3]


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    return write_drawn_roads(tmp_path_factory.mktemp("roads"), 6)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_detector(tmp_path_factory.mktemp("detector") / "detector.pth")


@pytest.fixture(autouse=True)
def three_cores(monkeypatch):
    """Loaders start as many workers as they are asked to, whatever machine runs the tests."""
    monkeypatch.setattr(os, "cpu_count", lambda: 3)


@pytest.fixture(scope="module")
def unbroken(roads, tmp_path_factory):
    """Folder of a training of three epochs without loader workers, all checkpoints kept."""
    folder = tmp_path_factory.mktemp("unbroken")
    train(detector_settings(roads, folder))
    return folder


def detector_settings(roads, folder, workers=0, **training):
    """Three epochs of three steps, with augmentation, dropout and a running average."""
    settings = {"epochs": 3, "validate_every": 2, "log_every": 1, "ema_momentum": 0.1} | training
    config = small_config(roads, folder, **settings)
    config.data.batch_size, config.data.num_workers = 2, workers
    config.data.augmentation.flip = 0.5
    return config


def begin_from(whole, epoch, folder):
    """Make `folder` the one of a run that was killed after `epoch`; its first epochs are those of `whole`."""
    (folder / "checkpoints").mkdir(parents=True)
    for number in range(epoch + 1):
        shutil.copy(whole / f"checkpoints/epoch_{number:04d}.ckpt", folder / "checkpoints")


def assert_same_training(whole, resumed):
    """Weights, averaged weights, optimiser, schedule and counters of the last checkpoints have the same bits."""
    one, two = (torch.load(last_checkpoint(folder), weights_only=True) for folder in (whole, resumed))
    for part in ("epoch", "global_step", "lr_schedulers", "loops"):
        assert one[part] == two[part], part
    for part in ("state_dict", "optimizer_states", "current_model_state"):
        one_tensors, two_tensors = (dict(tensors(run.get(part, {}))) for run in (one, two))
        assert one_tensors.keys() == two_tensors.keys()
        different = [name for name, value in one_tensors.items() if not torch.equal(value, two_tensors[name])]
        assert not different, f"{part}: {len(different)} of {len(one_tensors)} tensors differ"


def tensors(tree, name=""):
    """(name, tensor) of nested dicts and lists."""
    if isinstance(tree, torch.Tensor):
        yield name, tree
    elif isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from tensors(value, f"{name}.{key}")


@pytest.mark.parametrize("workers", WORKERS)
def test_a_resumed_detector_is_the_same_with_any_number_of_workers(workers, roads, unbroken, tmp_path):
    begin_from(unbroken, 0, tmp_path)
    train(detector_settings(roads, tmp_path, workers), resume=True)
    assert_same_training(unbroken, tmp_path)


@pytest.mark.parametrize("kind", ["images", "cache", "plain"])
def test_a_resumed_lanelm_is_the_same_with_any_number_of_workers(kind, roads, detector, tmp_path):
    def settings(name, workers=0):
        config = small_lanelm(roads, tmp_path / name, detector, epochs=3, validate_every=0, log_every=1)
        config.data.batch_size, config.data.num_workers = 2, workers
        config.lanelm.kind = "plain" if kind == "plain" else "full"
        if kind == "cache":
            config.lanelm.cache, config.lanelm.views = str(tmp_path / "cache"), 2
        return config

    train(settings("whole"))
    for workers in WORKERS:
        begin_from(tmp_path / "whole", 0, tmp_path / str(workers))
        train(settings(str(workers), workers), resume=True)
        assert_same_training(tmp_path / "whole", tmp_path / str(workers))


def test_a_limit_of_steps_does_not_change_what_is_resumed(roads, tmp_path):
    train(detector_settings(roads, tmp_path / "whole", max_steps=8))
    begin_from(tmp_path / "whole", 0, tmp_path / "resumed")
    train(detector_settings(roads, tmp_path / "resumed", max_steps=8), resume=True)
    assert torch.load(last_checkpoint(tmp_path / "whole"), weights_only=True)["global_step"] == 8
    assert_same_training(tmp_path / "whole", tmp_path / "resumed")


class SeenImages(pl.Callback):
    """The images of every training step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.seen.append((trainer.current_epoch, [meta["index"] for meta in batch["metainfo"]]))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_ended_within_an_epoch_goes_on_with_the_images_that_are_left(workers, roads, tmp_path):
    whole, first, second = SeenImages(), SeenImages(), SeenImages()
    train(detector_settings(roads, tmp_path / "whole", workers), callbacks=[whole])
    train(detector_settings(roads, tmp_path / "stopped", workers, max_steps=5), callbacks=[first])
    with pytest.warns(UserWarning, match=r"training\.max_steps \(5 -> -1\)"):
        train(detector_settings(roads, tmp_path / "stopped", workers), resume=True, callbacks=[second])
    assert len(first.seen) == 5
    assert first.seen + second.seen == whole.seen
    saved = torch.load(last_checkpoint(tmp_path / "stopped"), weights_only=True)
    assert (saved["epoch"], saved["global_step"]) == (2, 9)


# A training in a process of its own, killed as soon as it is about to do something.
KILLED = """
import os, signal, sys
sys.path.insert(0, {repository!r})
def end(event, arguments):
    if event == "os.rename" and str(arguments[0]).endswith(".tmp") and str(arguments[1]).endswith({rename!r}):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(end)
import lightning.pytorch as pl
from tests.engine.test_resuming import detector_settings
from clrernetlm.engine.training import train
class Kill(pl.Callback):
    def {hook}(self, trainer, module, *rest):
        if trainer.current_epoch == 1 and not trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGKILL)
train(detector_settings({root!r}, {work!r}, {workers}), callbacks=[Kill()])
"""


@pytest.mark.parametrize(
    ("hook", "rename", "workers"),
    [
        ("on_before_optimizer_step", "never", 1),  # within an epoch
        ("on_validation_batch_start", "never", 3),
        ("never", "epoch_0001.ckpt", 0),  # written, under its temporary name
    ],
)
def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(hook, rename, workers, roads, unbroken, tmp_path):
    script = KILLED.format(
        repository=str(REPOSITORY),
        hook=hook,
        rename=rename,
        workers=workers,
        root=str(roads),
        work=str(tmp_path / "run"),
    )
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert last_checkpoint(tmp_path / "run").name == "epoch_0000.ckpt"
    litter = list((tmp_path / "run/checkpoints").glob(".*.tmp"))
    assert len(litter) == (hook == "never")
    train(detector_settings(roads, tmp_path / "run", workers), resume=True)
    assert_same_training(unbroken, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert names == {path.name for path in (unbroken / "checkpoints").iterdir()}
