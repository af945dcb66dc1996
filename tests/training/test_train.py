"""Training learns, survives kills and full disks, and does not depend on the number of processes."""

import csv
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import load_config
from clrernetlm.config.serialization import from_dict
from clrernetlm.core.errors import UserError
from clrernetlm.evaluation.score_detector import score_detector
from clrernetlm.evaluation.score_options import RunOptions
from clrernetlm.training.checkpoint_io import AtomicCheckpointIO, last_checkpoint
from clrernetlm.training.detector_module import DetectorModule
from clrernetlm.training.train import build_trainer, train
from tests.helpers.drawn_roads import write_drawn_roads
from tests.helpers.processes import PATIENCE, ForkedProcess, free_ports, join_launch
from tests.helpers.small_detector import small_config, train_detector

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    return write_drawn_roads(tmp_path_factory.mktemp("roads"), 8)


def losses(metrics, column="loss"):
    """Return the training losses of a run, or another column, in order."""
    with open(metrics, newline="") as lines:
        return [float(row[column]) for row in csv.DictReader(lines) if row[column]]


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


EXACT = {"rtol": 0, "atol": 0}


def test_four_images_are_learned_to_the_last_lane(tmp_path):
    # One step an epoch, all images in each: batch statistics stay the same, which makes the goal exact.
    roads = write_drawn_roads(tmp_path / "roads", 4)
    config = small_config(roads, tmp_path / "run", epochs=150, learning_rate=6e-3, warmup_steps=10, validate_every=0)
    config.data.batch_size = 4
    config.model.head.attention_dropout = 0
    config.model.loss.seg_weight = 0
    config.model.assigner.min_topk = 4
    config.training.clip_norm, config.training.fit_anchors = 10, True
    scores = score_detector(config, str(train_detector(config)), run=RunOptions(device="cpu"))
    # Every lane and nothing else; rounding decides how many are off by more than the two pixels that .5 allows.
    assert scores["total"]["0.1"]["f1"] == pytest.approx(1.0, abs=1e-6)
    assert scores["total"]["0.5"]["f1"] > 0.3


def train_alone(root, work, resume=False, extra="", **training):
    """Train in a process of its own, after running the statements `extra` on its `config`."""
    config = small_config(root, work, epochs=4, log_every=1, validate_every=2, ema_momentum=0.1, **training)
    config.data.batch_size = 2
    exec(extra, {"config": config})
    train(config, resume=resume)


def start_training(*arguments, **training):
    work = arguments[1]
    return ForkedProcess(partial(train_alone, **training), *arguments, output_file=work.with_suffix(".txt"))


# Ends the process when the third epoch is about to begin.
KILL = """
import os, signal
from clrernetlm.training.callbacks import ReseedEachEpoch
begin = ReseedEachEpoch.on_train_epoch_start
def end(callback, trainer, module):
    if trainer.current_epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    begin(callback, trainer, module)
ReseedEachEpoch.on_train_epoch_start = end
"""


def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(roads, tmp_path):
    whole = start_training(roads, tmp_path / "whole")
    killed = start_training(roads, tmp_path / "killed", extra=KILL)
    assert killed.end() == -signal.SIGKILL
    assert last_checkpoint(tmp_path / "killed").name == "epoch_0001.ckpt"
    start_training(roads, tmp_path / "killed", resume=True).finish()
    whole.finish()
    whole = torch.load(last_checkpoint(tmp_path / "whole"), weights_only=True)
    resumed = torch.load(last_checkpoint(tmp_path / "killed"), weights_only=True)
    assert whole["global_step"] == resumed["global_step"] == 16
    for part in ("state_dict", "current_model_state"):  # averaged weights, trained weights
        assert_same(whole[part], resumed[part], **EXACT)


# The call of a user's script; processes that share a training run the script again.
SCRIPT = """
import sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from tests.training.test_train import train_alone
train_alone(Path({root!r}), Path({work!r}), extra={extra!r}, **{training!r})
"""


def start_script(root, work, extra, **training):
    script = work.with_suffix(".py")
    names = {"root": str(root), "work": str(work), "repository": str(REPOSITORY)}
    script.write_text(SCRIPT.format(**names, extra=extra, training=training))
    return subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_train_as_one(roads, tmp_path):
    # Dropout draws per process, so both of the network's are off. Weights stay where they are, and the arithmetic is in
    # double precision: in float32, thirty BatchNorms of few values turn rounding into 8 % of the first layers'
    # gradients, and may decide which anchor is matched. Five images to validate, so that the shares differ; for what is
    # found stand the labels, without the first lane of every second image.
    still = """
from clrernetlm.datasets.culane import read_labels
from clrernetlm.training.detector_module import DetectorModule
from clrernetlm.core.lane import Lane
count = DetectorModule.add_to_tally
def count_labels(module, found, metas, name=""):
    labels = [read_labels(config.data.root + meta["path"]) for meta in metas]
    lanes = [[Lane(points) for points in lanes] for lanes in labels]
    count(module, [lanes[meta["index"] % 2 :] for lanes, meta in zip(lanes, metas, strict=True)], metas, name)
DetectorModule.add_to_tally = count_labels
config.model.head.attention_dropout = 0
config.data.batch_size = 4
config.training.epochs = 2
config.data.val_list = "list/five.txt"
import torch
torch.nn.Dropout2d.forward = lambda layer, maps: maps
"""
    listed = (roads / "list/val.txt").read_text().splitlines(keepends=True)
    (roads / "list/five.txt").write_text("".join(listed[:5]))
    training = {"extra": still, "learning_rate": 1e-12, "precision": "64-true"}
    shared = {"num_devices": 2, "strategy": "ddp", "sync_batch_norm": True}
    two = start_script(roads, tmp_path / "two", **training, **shared)
    start_training(roads, tmp_path / "one", **training).finish()
    output = two.communicate(timeout=PATIENCE)[0]
    assert two.returncode == 0, output
    runs = ("one", "two")
    one, two = (losses(tmp_path / name / "metrics.csv") for name in runs)
    assert len(one) == 4
    assert two == pytest.approx(one, rel=1e-6)
    for score in ("F1@50", "recall@50"):
        one, two = (losses(tmp_path / name / "metrics.csv", f"val/{score}") for name in runs)
        assert one == two, score
        assert 0 < one[0] < 1, score
    one, two = (torch.load(last_checkpoint(tmp_path / name), weights_only=True) for name in runs)
    for name, value in one["current_model_state"].items():  # BatchNorm's statistics among them
        torch.testing.assert_close(two["current_model_state"][name], value, rtol=1e-6, atol=1e-7)
    one, two = (run["optimizer_states"][0]["state"] for run in (one, two))
    assert sum(bool(state["exp_avg"].any()) for state in one.values()) > 150
    for key, state in one.items():
        difference = (two[key]["exp_avg"] - state["exp_avg"]).norm()
        assert difference <= 1e-8 * state["exp_avg"].norm() + 1e-15, key


def train_until_told(rank, port, root, work):
    """Train as one of two processes, with the exit codes of a command."""
    join_launch(rank, 2, port)
    shared = {"num_devices": 2, "strategy": "ddp", "extra": "config.training.epochs = 10_000"}
    raise SystemExit(exit_code_of(lambda: train_alone(root, work, **shared)))


def test_sigterm_ends_all_processes_of_a_training(roads, tmp_path):
    (port,) = free_ports(1)
    work = tmp_path / "run"
    ranks = [
        ForkedProcess(train_until_told, rank, port, roads, work, output_file=tmp_path / f"{rank}.txt")
        for rank in range(2)
    ]
    while last_checkpoint(work) is None and all(rank.process.is_alive() for rank in ranks):
        time.sleep(0.05)
    for rank in reversed(ranks):
        rank.process.terminate()
    assert [rank.end() for rank in ranks] == [143, 143], [rank.output_file.read_text() for rank in ranks]
    for rank in ranks:
        assert rank.output_file.read_text().endswith("terminated\n")
        assert "Traceback" not in rank.output_file.read_text()
    assert AtomicCheckpointIO().load_checkpoint(last_checkpoint(work))["global_step"] > 0


def test_a_run_is_never_overwritten(roads, tmp_path):
    config = small_config(roads, tmp_path, epochs=1, validate_every=0, log_every=1)
    train(config)
    with pytest.raises(UserError, match="already holds a run"):
        train(config)
    before = (tmp_path / "checkpoints/epoch_0000.ckpt").read_bytes()
    assert train(config, resume=True) == tmp_path / "checkpoints/epoch_0000.ckpt"  # finished: nothing to do
    assert (tmp_path / "checkpoints/epoch_0000.ckpt").read_bytes() == before
    config.training.epochs = 2
    assert train(config, resume=True).name == "epoch_0001.ckpt"
    assert (tmp_path / "metrics.1.csv").exists()
    with pytest.raises(UserError, match="nothing to resume"):
        train(replace(config, training=replace(config.training, work_dir=str(tmp_path / "new"))), resume=True)
    other = replace(config, training=replace(config.training, work_dir=str(tmp_path / "other")))
    train(other)
    with pytest.raises(UserError, match="other: already holds a run"):
        train(other, resume=str(tmp_path / "checkpoints/epoch_0000.ckpt"))


def test_a_resumed_run_keeps_its_best_checkpoint_also_in_another_folder(roads, tmp_path):
    train(small_config(roads, tmp_path / "run", epochs=1, validate_every=1, log_every=1))
    (tmp_path / "run").rename(tmp_path / "moved")
    config = small_config(roads, tmp_path / "moved", epochs=2, validate_every=1, log_every=1)
    with pytest.warns(UserWarning, match=r"training\.epochs \(1 -> 2\)"):
        best = train(config, resume=True)
    (first,), (second,) = (losses(tmp_path / "moved" / name, "val/F1@50") for name in ("metrics.1.csv", "metrics.csv"))
    assert first >= second, "a better second epoch proves nothing"
    assert torch.load(best, weights_only=True)["epoch"] == 0


class Interrupt(Callback):
    """Ctrl-C in the second epoch."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_run_prints_a_notice_and_reacts_to_the_next_interrupt(roads, tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(roads, tmp_path, epochs=2, validate_every=0), callbacks=[Interrupt()])
    assert signal.getsignal(signal.SIGINT) is handler
    assert last_checkpoint(tmp_path).name == "epoch_0000.ckpt"


def test_a_missing_list_or_folder_is_named_before_the_first_epoch(roads, tmp_path):
    config = small_config(roads, tmp_path / "run", validate_every=5)
    config.data.val_list = "list/none.txt"
    with pytest.raises(UserError, match=r"none\.txt: the image list cannot be read"):
        train(config)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/run: cannot be written"):
        train(small_config(roads, tmp_path / "file" / "run"))


def test_checkpoints_hold_the_configuration(roads, tmp_path):
    config = small_config(roads, tmp_path, epochs=1, validate_every=0)
    saved = torch.load(train(config), weights_only=True)
    assert from_dict(saved["config"]) == config


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    target = tmp_path / "checkpoints" / "epoch_0001.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"state_dict": {"a": torch.zeros(3)}}, target)
    before = target.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the system now refuses larger files
    try:
        with pytest.raises(UserError, match=r"epoch_0001\.ckpt: cannot be written"):
            io.save_checkpoint({"state_dict": {"a": torch.zeros(100_000)}}, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("content", [b"not a checkpoint", [1], {"state_dict": {}}, {"epoch": "one", "state_dict": {}}])
def test_an_invalid_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "epoch_0000.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=r"epoch_0000\.ckpt: not a training checkpoint") as caught:
        AtomicCheckpointIO().load_checkpoint(path)
    assert "weights_only" not in str(caught.value)  # PyTorch's advice to run what is in the file


def test_the_last_checkpoint_is_that_of_the_highest_epoch(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for epoch in (2, 9999, 10000):
        (tmp_path / "checkpoints" / f"epoch_{epoch:04d}.ckpt").touch()
    assert last_checkpoint(tmp_path).name == "epoch_10000.ckpt"


def test_the_published_size_learns_without_nan(tmp_path):
    root = write_drawn_roads(tmp_path, 4, size=(820, 296))
    config = load_config("clrernet_culane_dla34", [f"--data.root={root}", "--data.batch-size=1"])
    config.model.backbone.pretrained = False
    config.data.diff_file = None
    config.data.num_workers = 0
    config.training = replace(
        config.training,
        device="cpu",
        work_dir=str(tmp_path / "run"),
        max_steps=12,
        epochs=3,
        validate_every=0,
        log_every=1,
    )
    trained = torch.load(train(config), weights_only=True)["state_dict"]
    found = losses(tmp_path / "run/metrics.csv")
    assert len(found) == 12
    assert np.isfinite(found).all()
    assert sum(found[-4:]) < 0.8 * sum(found[:4])  # of the same four images
    assert all(value.isfinite().all() for value in trained.values())


def test_a_run_stopped_before_validation_returns_its_last_checkpoint(roads, tmp_path):
    stop = "config.data.batch_size = 2"  # three of the four steps of an epoch
    output = start_training(roads, tmp_path / "run", extra=stop, max_steps=3).finish()
    assert "Warning" not in output
    assert "monitor" not in output
    assert last_checkpoint(tmp_path / "run").name == "epoch_0000.ckpt"
    assert torch.load(last_checkpoint(tmp_path / "run"), weights_only=True)["global_step"] == 3
    settings = {"epochs": 4, "log_every": 1, "validate_every": 2, "max_steps": 3, "ema_momentum": 0.1}
    config = small_config(roads, tmp_path / "run", **settings)
    config.data.batch_size = 2
    assert train(config, resume=True) == last_checkpoint(tmp_path / "run")
    config.training.max_steps = 4
    with pytest.warns(UserWarning, match=r"training\.max_steps \(3 -> 4\)"):
        train(config, resume=True)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["epoch_0000.ckpt"]
    assert torch.load(last_checkpoint(tmp_path / "run"), weights_only=True)["global_step"] == 4


def trainer_for(device, monkeypatch, tmp_path, count=2, **training):
    """Return the arguments of the trainer on a machine with `count` CUDA devices."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    given = {}
    monkeypatch.setattr("lightning.pytorch.Trainer", lambda **settings: given.update(settings))
    config = small_config(tmp_path, tmp_path, **training)
    config.training.device = device
    build_trainer(config, tmp_path)
    return given


@pytest.mark.parametrize(
    ("device", "accelerator", "devices"),
    [("cuda:1", "gpu", [1]), ("cuda", "gpu", 1), ("auto", "gpu", 1), ("cpu", "cpu", 1)],
)
def test_devices_have_the_same_names_everywhere(device, accelerator, devices, monkeypatch, tmp_path):
    given = trainer_for(device, monkeypatch, tmp_path)
    assert (given["accelerator"], given["devices"]) == (accelerator, devices)


def test_several_processes_do_not_share_a_named_device(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"num_devices: 2 do not fit in one cuda:1; use device cuda"):
        trainer_for("cuda:1", monkeypatch, tmp_path, num_devices=2)


@pytest.mark.parametrize(
    ("training", "environment", "message"),
    [
        ({}, {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, "use training.num_devices=2 training.num_nodes=2"),
        ({"num_devices": 2}, {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, "the launcher started 1"),
        ({"num_nodes": 2}, {}, "num_nodes: 2, but no launcher"),
        ({"num_devices": 3}, {}, r"data\.batch_size: 8 is not a multiple of the 3 processes"),
        ({"num_devices": 2, "strategy": "fsdp"}, {}, "fsdp needs CUDA devices, and this run is on cpu"),
        ({"strategy": "dpp"}, {}, "training: .*dpp"),
    ],
)
def test_mismatched_processes_are_a_one_line_error(monkeypatch, tmp_path, training, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    with pytest.raises(UserError, match=message) as caught:
        build_trainer(small_config(tmp_path, tmp_path, **training), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"num_devices": 4}, "this machine has 2 of cuda; use 2"),
        ({"strategy": "fsdp", "clip_norm": 1.0}, r"training\.clip_norm: cannot be had with strategy fsdp"),
        ({"strategy": "fsdp", "ema_momentum": 0.1}, r"training\.ema_momentum: cannot be had"),
        ({"strategy": "fsdp", "precision": "64-true"}, r"training\.precision: 64-true cannot be had"),
    ],
)
def test_unsupported_multi_gpu_settings_are_a_one_line_error(monkeypatch, tmp_path, training, message):
    with pytest.raises(UserError, match=message):
        trainer_for("cuda", monkeypatch, tmp_path, **training)


def test_fsdp_on_gpus_is_passed_to_lightning(monkeypatch, tmp_path):
    given = trainer_for("cuda", monkeypatch, tmp_path, num_devices=2, strategy="fsdp")
    assert (given["strategy"], given["accelerator"], given["devices"]) == ("fsdp", "gpu", 2)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_missing_device_is_a_one_line_error(device, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=f"PyTorch finds no {device} on this machine; use cpu"):
        trainer_for(device, monkeypatch, tmp_path, count=0)


def test_deterministic_training_warns_where_a_device_has_no_deterministic_kernel(monkeypatch, tmp_path):
    # CUDA has none for the gradient of grid_sample; True would end the run at its first step.
    assert trainer_for("cpu", monkeypatch, tmp_path, deterministic=True)["deterministic"] == "warn"
    assert trainer_for("cpu", monkeypatch, tmp_path)["deterministic"] is False


@pytest.mark.parametrize("frozen", ["freeze_stem", "freeze_backbone_norm"])
def test_frozen_weights_keep_their_values(roads, tmp_path, frozen):
    config = small_config(roads, tmp_path, epochs=2, validate_every=1, **{frozen: True})
    torch.manual_seed(config.training.seed)
    before = DetectorModule(config).model.backbone
    after = DetectorModule(config).model.backbone
    weights = AtomicCheckpointIO().load_checkpoint(train(config))["state_dict"]
    prefix = "model.backbone."
    after.load_state_dict(
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    )
    stem = {id(module) for layer in before.stem() for module in layer.modules()}
    for old, new in zip(before.modules(), after.modules(), strict=True):
        own = {**dict(old.named_parameters(recurse=False)), **dict(old.named_buffers(recurse=False))}
        now = {**dict(new.named_parameters(recurse=False)), **dict(new.named_buffers(recurse=False))}
        norm = isinstance(old, torch.nn.BatchNorm2d)
        for name, value in own.items():
            fixed = id(old) in stem if frozen == "freeze_stem" else norm and name not in ("weight", "bias")
            assert torch.equal(value, now[name]) == (fixed or value.numel() == 0), (name, type(old))


def test_training_starts_from_the_given_weights(roads, tmp_path):
    first = train(small_config(roads, tmp_path / "a", epochs=1, validate_every=0))
    config = small_config(roads, tmp_path / "b", epochs=1, validate_every=0, init_from=str(first), learning_rate=0.0)
    second = train(config)
    a, b = (AtomicCheckpointIO().load_checkpoint(path)["state_dict"] for path in (first, second))
    learned = [name for name in a if name.endswith("weight")]
    assert_same({name: a[name] for name in learned}, {name: b[name] for name in learned}, **EXACT)


def test_lane_slants_are_measured_in_the_configured_frame(tmp_path):
    config = small_config(tmp_path, tmp_path)  # 160x64, half as flat as CULane's crop
    pred = torch.linspace(0.1, 0.9, 72)[None]
    losses = {}
    for frame in ("culane", "viewport"):
        config.model.loss.iou_frame = frame
        losses[frame] = DetectorModule(config).criterion.lane_iou(pred, pred + 0.02).item()
    # In the flatter frame the lane is wider, so the same distance lowers its overlap less.
    assert losses["culane"] < 0.8 * losses["viewport"]


class Lose(Callback):
    """Sets a weight to NaN before a step's loss is computed, or by its gradient."""

    def __init__(self, what, epoch, batch):
        self.what, self.when = what, (epoch, batch)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.what == "loss" and (trainer.current_epoch, batch_idx) == self.when:
            next(module.parameters()).data.fill_(torch.nan)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if self.what == "weights" and (trainer.current_epoch, trainer.fit_loop.batch_idx) == self.when:
            next(module.parameters()).grad.fill_(torch.nan)


@pytest.mark.parametrize("what", ["loss", "weights"])
@pytest.mark.parametrize("settings", [{}, {"ema_momentum": 0.1, "precision": "bf16-mixed"}])
def test_a_diverged_training_is_one_line_and_keeps_its_checkpoints(what, settings, roads, tmp_path):
    config = small_config(roads, tmp_path, epochs=3, validate_every=1, log_every=1, **settings)
    config.data.batch_size = 4
    message = "the loss is not finite (nan)" if what == "loss" else "weights are not finite"
    step = 3 if what == "loss" else 4
    with pytest.raises(
        UserError, match=re.escape(f"training diverged: {message} at step {step} of epoch 2; ")
    ) as caught:
        train(config, callbacks=[Lose(what, 1, 0 if what == "loss" else 1)])
    assert "lower training.learning_rate (0.0006) or set training.clip_norm" in str(caught.value)
    assert ("precision 32-true" in str(caught.value)) == ("precision" in settings)
    assert str(caught.value).endswith("epoch_0000.ckpt with `resume=True`")
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"best.ckpt", "epoch_0000.ckpt"}
    for path in (tmp_path / "checkpoints").iterdir():
        saved = torch.load(path, weights_only=True)
        assert saved["epoch"] == 0
        assert all(value.isfinite().all() for value in saved["state_dict"].values())


@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_a_rate_that_is_too_large_is_one_line(rate, roads, tmp_path):
    config = small_config(roads, tmp_path, epochs=5, validate_every=0, learning_rate=rate)
    config.data.batch_size = 2
    with pytest.raises(UserError, match=r"training diverged: the loss is not finite .* at step .*, and begin again$"):
        train(config)


def test_a_short_training_logs_its_loss(roads, tmp_path):
    train(small_config(roads, tmp_path, epochs=2, validate_every=0))  # one step an epoch
    assert len(losses(tmp_path / "metrics.csv")) == 2


def test_validation_frames_larger_than_the_canvas_are_named_before_training(roads: Path, tmp_path: Path) -> None:
    config = small_config(roads, tmp_path, validate_every=1)
    config.evaluation.image_size = (400, 140)
    with pytest.raises(UserError, match=r"\.jpg: a frame of 410x148 is larger than the 400x140"):
        train(config)
    assert not tmp_path.joinpath("metrics.csv").exists()
