"""A resumed training is the training that was never interrupted."""

import math
import os
import re
import shutil
import signal
import sys

import lightning.pytorch as pl
import pytest
import torch

from clrernetlm.config.serialization import from_dict, setting_types, to_dict
from clrernetlm.core.errors import UserError
from clrernetlm.training.checkpoint_io import last_checkpoint
from clrernetlm.training.resume import (
    CHANGEABLE_SETTINGS,
    IRRELEVANT_SETTINGS,
    KEPT_PROPERTIES,
    KEPT_SETTINGS,
    check_settings,
    is_metrics,
    prepare_work_directory,
    setting_group,
)
from clrernetlm.training.train import train, trained_checkpoint
from tests.helpers.drawn_roads import write_drawn_roads
from tests.helpers.processes import ForkedProcess
from tests.helpers.small_detector import small_config
from tests.helpers.small_lanelm import small_lanelm_config, write_detector

WORKERS = [0, 1, 3]


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    return write_drawn_roads(tmp_path_factory.mktemp("roads"), 6)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_detector(tmp_path_factory.mktemp("detector") / "detector.pth")


@pytest.fixture(autouse=True)
def three_cores(monkeypatch):
    """Let loaders start the requested number of workers on any machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})


@pytest.fixture(scope="module")
def unbroken(roads, tmp_path_factory):
    """Train three epochs without loader workers, keeping all checkpoints; returns the folder."""
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
    """Make `folder` that of a run killed after `epoch`, with the first epochs of `whole`."""
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
        config = small_lanelm_config(roads, tmp_path / name, detector, epochs=3, validate_every=0, log_every=1)
        config.data.batch_size, config.data.num_workers = 2, workers
        config.lanelm.variant = "plain" if kind == "plain" else "full"
        if kind == "cache":
            config.lanelm.cache, config.lanelm.cached_augmentations = str(tmp_path / "cache"), 2
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
    """Records the images of every training step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.seen.append((trainer.current_epoch, [meta["index"] for meta in batch["metainfo"]]))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_ended_within_an_epoch_resumes_with_the_remaining_images(workers, roads, tmp_path):
    whole, first, second = SeenImages(), SeenImages(), SeenImages()
    train(detector_settings(roads, tmp_path / "whole", workers), callbacks=[whole])
    train(detector_settings(roads, tmp_path / "stopped", workers, max_steps=5), callbacks=[first])
    with pytest.warns(UserWarning, match=r"training\.max_steps \(5 -> -1\)"):
        train(detector_settings(roads, tmp_path / "stopped", workers), resume=True, callbacks=[second])
    assert len(first.seen) == 5
    assert first.seen + second.seen == whole.seen
    saved = torch.load(last_checkpoint(tmp_path / "stopped"), weights_only=True)
    assert (saved["epoch"], saved["global_step"]) == (2, 9)


def train_and_die(hook, rename, workers, root, work):
    """Train in a process that is killed as soon as it is about to do something."""

    def end(event, arguments):
        if event == "os.rename" and str(arguments[0]).endswith(".tmp") and str(arguments[1]).endswith(rename):
            os.kill(os.getpid(), signal.SIGKILL)

    def kill(callback, trainer, module, *rest):
        if trainer.current_epoch == 1 and not trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(end)
    train(detector_settings(root, work, workers), callbacks=[type("Kill", (pl.Callback,), {hook: kill})()])


@pytest.mark.parametrize(
    ("hook", "rename", "workers"),
    [
        ("on_before_optimizer_step", "never", 1),  # within an epoch
        ("on_validation_batch_start", "never", 3),
        ("never", "epoch_0001.ckpt", 0),  # written, under its temporary name
    ],
)
def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(hook, rename, workers, roads, unbroken, tmp_path):
    process = ForkedProcess(
        train_and_die, hook, rename, workers, roads, tmp_path / "run", output_file=tmp_path / "said.txt"
    )
    assert process.end() == -signal.SIGKILL, process.output_file.read_text()
    assert last_checkpoint(tmp_path / "run").name == "epoch_0000.ckpt"
    litter = list((tmp_path / "run/checkpoints").glob(".*.tmp"))
    assert len(litter) == (hook == "never")
    train(detector_settings(roads, tmp_path / "run", workers), resume=True)
    assert_same_training(unbroken, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert names == {path.name for path in (unbroken / "checkpoints").iterdir()}


# The effect of a setting changed to this value on a resumed run: it is refused, applied with a warning, or
# applied without one because nothing that is trained depends on it.
CHANGES = {
    "kept": {
        "task": "lanelm",
        "model.backbone.name": "dla34",
        "model.backbone.pretrained": True,
        "model.head.num_priors": 24,
        "model.head.num_points": 36,
        "model.head.sample_points": 18,
        "model.head.refine_layers": 2,
        "model.head.feature_channels": 32,
        "model.head.fc_layers": 1,
        "model.head.roi_channels": 6,
        "model.head.attention_size": (5, 10),
        "model.viewport.width": 320,
        "model.viewport.height": 32,
        "model.viewport.left": 0.1,
        "model.viewport.top": 0.3,
        "model.viewport.right": 0.9,
        "model.viewport.bottom": 0.9,
        "model.max_lanes": 3,
        "model.loss.seg_weight": 0.0,
        "lanelm.variant": "plain",
        "lanelm.network.num_layers": 2,
        "training.init_from": "roads",
        "training.freeze_stem": True,
        "training.fit_anchors": True,
        "training.ema_momentum": None,
        "training.precision": "64-true",
        "training.strategy": "fsdp",
        "training.seed": 1,
    },
    "obeyed": {
        "model.head.attention_dropout": 0.2,
        "model.assigner.max_topk": 3,
        "model.loss.seg_weight": 0.5,
        "model.decode.conf_threshold": 0.3,
        "lanelm.training_requests.proposals": 3,
        "lanelm.cached_augmentations": 2,
        "lanelm.decode.refinement_rounds": 2,
        "data.root": "elsewhere",
        "data.train_list": "list/other.txt",
        "data.val_list": "list/other.txt",
        "data.diff_file": "list/other.npz",
        "data.diff_threshold": 1.0,
        "data.use_masks": False,
        "data.batch_size": 3,
        "data.decode": "half",
        "data.augmentation.flip": 0.1,
        "training.epochs": 9,
        "training.max_steps": 100,
        "training.learning_rate": 1e-5,
        "training.betas": (0.8, 0.9),
        "training.weight_decay": 0.5,
        "training.warmup_steps": 3,
        "training.schedule": "constant",
        "training.backbone_lr_scale": 0.5,
        "training.freeze_backbone_norm": True,
        "training.ema_momentum": 0.2,
        "training.clip_norm": 1.0,
        "training.precision": "bf16-mixed",
        "training.accumulate": 2,
        "training.validate_every": 1,
        "training.deterministic": True,
        "training.num_devices": 2,
        "training.num_nodes": 2,
        "training.strategy": "ddp",
        "training.sync_batch_norm": True,
        "evaluation.implementation": "official",
        "evaluation.lane_width": 9,
        "evaluation.image_size": (820, 295),
    },
    "silent": {
        "name": "other",
        "model.viewport_mode": "auto",
        "lanelm.detector": "moved.ckpt",
        "lanelm.cache": "elsewhere",
        "lanelm.cache_limit": 3.0,
        "data.test_list": "list/other.txt",
        "data.categories": "folders",
        "data.num_workers": 3,
        "training.log_every": 7,
        "training.device": "cuda",
        "training.keep_checkpoints": 7,
        "training.work_dir": "elsewhere",
        "evaluation.thresholds": (0.3,),
    },
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in CHANGES.items() for name in names])
def test_a_changed_setting_is_refused_applied_or_harmless(kind, name, unbroken, recwarn):
    path = last_checkpoint(unbroken)
    saved = torch.load(path, weights_only=True)
    config = with_setting(from_dict(saved["config"]), name, CHANGES[kind][name])
    if kind == "kept":
        with pytest.raises(
            UserError, match=rf"^{re.escape(name)} is .* and was .*epoch_0002\.ckpt: a resumed run keeps it"
        ):
            check_settings(config, saved, path)
        return
    check_settings(config, saved, path)
    words = [str(warning.message) for warning in recwarn]
    assert any(f"{name} (" in line for line in words) == (kind == "obeyed"), words


def with_setting(config, name, value):
    """A copy of the settings with another value for a dotted name."""
    tree = to_dict(config)
    *groups, last = name.split(".")
    branch = tree
    for group in groups:
        branch = branch[group]
    branch[last] = value
    return from_dict(tree)


def test_every_setting_has_a_rule_for_resuming():
    for name in setting_types():
        places = [setting_group(name, group) for group in (KEPT_SETTINGS, IRRELEVANT_SETTINGS, CHANGEABLE_SETTINGS)]
        assert any(places) or name in KEPT_PROPERTIES, f"{name}: what does a resumed run do with it?"
        lengths = sorted(map(len, places))
        assert lengths[-1] > lengths[-2] or name in KEPT_PROPERTIES, f"{name}: in two places"


class Steps(pl.Callback):
    """Records settings of the optimiser at every step: learning rates of backbone and head, weight decay, betas."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        first, second = optimizer.param_groups
        self.seen.append((first["lr"], second["lr"], first["weight_decay"], first["betas"]))


def cosine(step, total, rate):
    """The learning rate of step `step` of `total`."""
    return pytest.approx(rate * 0.5 * (1 + math.cos(math.pi * step / total)))


def constant(step, total, rate):
    """The learning rate of every step."""
    return rate


@pytest.mark.filterwarnings("ignore:.*trained with other settings until here")
@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, range(3, 9)),
        ({"learning_rate": 1e-5, "weight_decay": 0.5, "betas": (0.8, 0.9), "backbone_lr_scale": 0.5}, range(3, 9)),
        ({"epochs": 4}, range(3, 12)),
        ({"schedule": "constant"}, range(3, 9)),
        ({"epochs": 2, "clip_norm": 0.1}, range(3, 6)),
        ({"max_steps": 5}, range(3, 5)),
        ({"accumulate": 3}, range(1, 3)),  # one step an epoch
        ({"batch_size": 3}, range(2, 6)),
        ({"batch_size": 1}, range(6, 18)),
    ],
)
def test_changed_settings_of_the_optimiser_are_applied(changes, steps, roads, unbroken, tmp_path):
    begin_from(unbroken, 0, tmp_path)
    batch_size = changes.pop("batch_size", 2)
    config = detector_settings(roads, tmp_path, validate_every=0, **changes)
    config.data.batch_size = batch_size
    watch, settings = Steps(), config.training
    train(config, resume=True, callbacks=[watch])
    total = settings.max_steps if settings.max_steps > 0 else steps.stop
    assert len(watch.seen) == len(steps)
    for step, (backbone, head, decay, betas) in zip(steps, watch.seen, strict=True):
        expected = constant if settings.schedule == "constant" else cosine
        assert head == expected(step, total, settings.learning_rate)
        assert backbone == expected(step, total, settings.learning_rate * settings.backbone_lr_scale)
        assert (decay, betas) == (settings.weight_decay, settings.betas)
    saved = torch.load(last_checkpoint(tmp_path), weights_only=True)
    assert from_dict(saved["config"]) == config


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_precision_and_running_average_may_change_on_resuming(precision, roads, unbroken, tmp_path):
    begin_from(unbroken, 1, tmp_path)
    config = detector_settings(roads, tmp_path, precision=precision, ema_momentum=0.5, epochs=3)
    with pytest.warns(UserWarning, match="ema_momentum"):
        train(config, resume=True)
    assert torch.load(last_checkpoint(tmp_path), weights_only=True)["global_step"] == 9


def test_another_number_of_images_warns_and_adapts_the_schedule(roads, unbroken, tmp_path):
    begin_from(unbroken, 0, tmp_path / "run")
    shutil.copytree(roads, tmp_path / "roads")
    lines = (roads / "list/train_gt.txt").read_text().splitlines(keepends=True)
    (tmp_path / "roads/list/train_gt.txt").write_text("".join(lines[:4]))
    watch = Steps()
    with pytest.warns(UserWarning, match=r"epoch_0000\.ckpt: trained on 6 images until here, and goes on with 4"):
        train(detector_settings(tmp_path / "roads", tmp_path / "run"), resume=True, callbacks=[watch])
    assert [head for _, head, *_ in watch.seen] == [cosine(step, 6, 6e-4) for step in range(2, 6)]


def test_adding_or_removing_masks_is_refused(roads, unbroken, tmp_path):
    begin_from(unbroken, 0, tmp_path)
    config = detector_settings(roads, tmp_path)
    config.data.use_masks = False
    with (
        pytest.warns(UserWarning, match=r"data\.use_masks"),
        pytest.raises(UserError, match=r"epoch_0000\.ckpt: trained other weights .* lane masks"),
    ):
        train(config, resume=True)


def test_the_batch_size_stays_until_the_end_of_a_started_epoch(roads, tmp_path):
    train(detector_settings(roads, tmp_path, max_steps=2))
    config = detector_settings(roads, tmp_path)
    config.data.batch_size = 3
    with pytest.raises(
        UserError, match=r"data\.batch_size: 3, but training\.max_steps ended .*epoch_0000\.ckpt within"
    ):
        train(config, resume=True)


def test_the_best_checkpoint_of_another_validation_is_set_aside(roads, unbroken, tmp_path):
    begin_from(unbroken, 1, tmp_path)
    shutil.copy(unbroken / "checkpoints/best.ckpt", tmp_path / "checkpoints")
    config = detector_settings(roads, tmp_path, validate_every=1, keep_checkpoints=1)
    config.model.decode.conf_threshold = 0.1
    with pytest.warns(UserWarning, match=r"best\.ckpt moved to before_1; this run goes on from epoch_0001\.ckpt"):
        best = train(config, resume=True)
    assert torch.load(best, weights_only=True)["epoch"] == 2
    assert (tmp_path / "checkpoints/before_1/best.ckpt").exists()
    # With fewer checkpoints to keep, the one that the run resumes from is kept as well.
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"before_1", "best.ckpt", "epoch_0001.ckpt", "epoch_0002.ckpt"}


def test_a_best_checkpoint_of_another_run_is_not_the_result(unbroken, tmp_path):
    folder = shutil.copytree(unbroken / "checkpoints", tmp_path / "checkpoints")
    best, last = folder / "best.ckpt", folder / "epoch_0002.ckpt"
    assert trained_checkpoint(tmp_path) == best
    other = torch.load(best, weights_only=True)
    for state in other["callbacks"].values():
        state |= {"best_model_score": torch.tensor(0.125)} if "best_model_score" in state else {}
    torch.save(other, best)
    assert trained_checkpoint(tmp_path) == last
    torch.save(other | {"callbacks": {"'val/F1@50'": 1}}, best)
    assert trained_checkpoint(tmp_path) == last
    best.write_text("not a checkpoint")
    assert trained_checkpoint(tmp_path) == last


def test_going_back_to_an_earlier_checkpoint_sets_later_ones_aside(roads, unbroken, tmp_path):
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    start = tmp_path / "checkpoints/epoch_0000.ckpt"
    config = detector_settings(roads, tmp_path, learning_rate=1e-4, validate_every=0, max_steps=6)
    with pytest.warns(UserWarning, match=r"best\.ckpt, epoch_0001\.ckpt, epoch_0002\.ckpt moved to before_1"):
        last = train(config, resume=str(start))
    assert last == last_checkpoint(tmp_path)
    assert last.name == "epoch_0001.ckpt"
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"before_1", start.name, last.name}
    assert len(list((tmp_path / "checkpoints/before_1").iterdir())) == 3


def test_logs_and_folders_of_earlier_runs_keep_their_numbers(roads, unbroken, tmp_path):
    begin_from(unbroken, 1, tmp_path)
    kept = tmp_path / "metrics.2.csv"  # metrics.1.csv was deleted
    kept.write_text("epoch,step\n")
    (tmp_path / "metrics.csv").write_text("epoch,step\n1,2\n")
    (tmp_path / "checkpoints/before_2").mkdir()
    shutil.copy(unbroken / "checkpoints/best.ckpt", tmp_path / "checkpoints")
    config = detector_settings(roads, tmp_path, validate_every=1)
    config.model.decode.conf_threshold = 0.1
    start = last_checkpoint(tmp_path)
    saved = torch.load(start, weights_only=True)
    for number in (1, 3):
        with pytest.warns(UserWarning, match=f"best.ckpt moved to before_{number}"):
            prepare_work_directory(tmp_path, start, config, saved)
        assert (tmp_path / f"metrics.{number}.csv").exists()
        shutil.copy(unbroken / "checkpoints/best.ckpt", tmp_path / "checkpoints")
        (tmp_path / "metrics.csv").write_text("epoch,step\n1,2\n")
    assert kept.read_text() == "epoch,step\n"


def test_resuming_in_another_directory_replaces_no_other_run(roads, unbroken, tmp_path):
    theirs = tmp_path / "checkpoints/best.ckpt"
    theirs.parent.mkdir()
    theirs.write_text("precious")
    config = detector_settings(roads, tmp_path)
    with pytest.raises(UserError, match=r"best\.ckpt: would be overwritten, and is not a file of a run"):
        train(config, resume=str(unbroken / "checkpoints/epoch_0000.ckpt"))
    assert theirs.read_text() == "precious"


def test_a_run_is_found_through_a_missing_folder_in_its_path(roads, unbroken):
    with pytest.raises(UserError, match="already holds a run"):
        train(detector_settings(roads, unbroken / "new" / ".."))
    assert not (unbroken / "new").exists()


def test_a_resumed_lanelm_keeps_its_detector(roads, detector, tmp_path):
    def settings(**training):
        config = small_lanelm_config(roads, tmp_path / "run", detector, validate_every=0, log_every=1, **training)
        config.data.batch_size = 3
        return config

    train(settings(epochs=1))
    moved = shutil.copy(detector, tmp_path / "moved.pth")
    config = settings(epochs=2)
    config.lanelm.detector = str(moved)
    with pytest.warns(UserWarning, match=r"training\.epochs"):
        train(config, resume=True)
    weights = torch.load(detector, weights_only=True)
    name = next(iter(weights["state_dict"]))
    weights["state_dict"][name] += 1
    torch.save(weights, tmp_path / "other.pth")
    config = settings(epochs=3)
    config.lanelm.detector = str(tmp_path / "other.pth")
    with (
        pytest.warns(UserWarning, match=r"training\.epochs"),
        pytest.raises(UserError, match=r"lanelm\.detector: .*other\.pth is not the detector of .*epoch_0001\.ckpt"),
    ):
        train(config, resume=True)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("", True),
        ("lr-AdamW/pg1,lr-AdamW/pg2,step\n5e-4,5e-4,2\n", True),  # killed at the first step
        ("data_wait,epoch,loss,lr-AdamW,step,train/loss_x\n", True),
        ("step,speed\n1,2\n", False),
        ("mine", False),
    ],
)
def test_logs_of_a_killed_run_are_distinguished_from_other_files(text, own, tmp_path):
    (tmp_path / "metrics.csv").write_text(text)
    assert is_metrics(tmp_path / "metrics.csv") == own
