"""Training of LaneLM: it learns, the detector is unchanged, kills and the number of processes change nothing."""

import signal
from functools import partial

import lightning.pytorch as pl
import pytest
import torch

from clrernetlm.config.serialization import from_dict
from clrernetlm.core.errors import UserError
from clrernetlm.training.checkpoint_io import last_checkpoint
from clrernetlm.training.train import train
from clrernetlm.weights.build_models import init_lanelm_detector
from clrernetlm.weights.checkpoint import read_checkpoint
from tests.helpers.drawn_roads import write_drawn_roads
from tests.helpers.metrics_file import logged
from tests.helpers.processes import ForkedProcess, free_ports, join_launch
from tests.helpers.small_lanelm import small_lanelm_config, write_detector


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    return write_drawn_roads(tmp_path_factory.mktemp("roads"), 8)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_detector(tmp_path_factory.mktemp("detector") / "detector.pth")


class Watch(pl.Callback):
    """Records the mode and the gradients of the detector during training."""

    def __init__(self):
        self.seen = []

    def on_after_backward(self, trainer, module):
        detector = module.model.detector
        self.seen.append(
            (
                any(layer.training for layer in detector.modules()),
                any(parameter.grad is not None for parameter in detector.parameters()),
                all(parameter.grad is not None for parameter in module.model.lanelm.parameters()),
            )
        )


@pytest.mark.parametrize(
    ("kind", "training"),
    [
        ("full", {"ema_momentum": 0.1}),
        ("full", {"precision": "bf16-mixed", "accumulate": 2}),
        ("plain", {"ema_momentum": 0.1}),
    ],
)
def test_lanelm_learns_and_the_detector_is_unchanged(kind, training, roads, detector, tmp_path, recwarn):
    config = small_lanelm_config(roads, tmp_path, detector, epochs=12, log_every=1, learning_rate=5e-3, **training)
    config.lanelm.variant = kind
    config.data.batch_size = 4
    config.training.validate_every = 12
    watch = Watch()
    checkpoint = train(config, callbacks=[watch])
    assert checkpoint.name == "best.ckpt"
    assert len(watch.seen) == 24
    assert set(watch.seen) == {(False, False, True)}
    losses = logged(tmp_path, "loss")
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    for column in ("val/F1@50", "val/mF1", "val/detector_F1@50", "val/detector_mF1"):
        assert len(logged(tmp_path, column)) == 1, column
    assert not [warning for warning in recwarn if "eval mode" in str(warning.message)]

    saved = torch.load(checkpoint, weights_only=True)
    assert from_dict(saved["config"]) == config
    before = read_checkpoint(detector)["state_dict"]
    for state in (saved["state_dict"], saved.get("current_model_state", saved["state_dict"])):
        own = {name: value for name, value in state.items() if name.startswith("model.detector.")}
        for name, value in own.items():
            assert torch.equal(value, before[name.removeprefix("model.detector.")]), name
        assert len(own) >= len(before) - 1  # the published files hold the weights of a loss as well
    model = init_lanelm_detector(config, checkpoint)
    assert not any(layer.training for layer in model.modules())
    assert torch.equal(model.lanelm.head.proj_x.weight, saved["state_dict"]["model.lanelm.head.proj_x.weight"])


def test_a_missing_detector_is_an_error(roads, detector, tmp_path):
    config = small_lanelm_config(roads, tmp_path, detector, epochs=1)
    config.lanelm.detector = None
    with pytest.raises(UserError, match=r"lanelm\.detector: not set; give the CLRerNet checkpoint"):
        train(config)
    config.lanelm.detector = str(tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"none\.pth: no such checkpoint"):
        train(config)


def train_alone(root, work, detector, resume=False, extra="", **training):
    """Train in a process of its own, after running the statements `extra` on its `config`."""
    config = small_lanelm_config(root, work, detector, log_every=1, **training)
    exec(extra, {"config": config})
    train(config, resume=resume)


def start_training(*arguments, **training):
    work = arguments[1]
    return ForkedProcess(partial(train_alone, **training), *arguments, output_file=work.with_suffix(".txt"))


def train_as(rank, port, *arguments, **training):
    """Train as one of two processes that a launcher has started."""
    join_launch(rank, 2, port)
    train_alone(*arguments, num_devices=2, strategy="ddp", **training)


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


def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(roads, detector, tmp_path):
    moved = tmp_path / "detector.pth"
    moved.write_bytes(detector.read_bytes())
    training = {"epochs": 8, "ema_momentum": 0.1, "validate_every": 0, "extra": "config.data.batch_size = 2"}
    unbroken = start_training(roads, tmp_path / "whole", moved, **training)
    killed = training | {"extra": training["extra"] + KILL}
    assert start_training(roads, tmp_path / "killed", moved, **killed).end() == -signal.SIGKILL
    unbroken.finish()
    assert last_checkpoint(tmp_path / "killed").name == "epoch_0001.ckpt"
    moved.unlink()  # the checkpoint holds the detector
    output = start_training(roads, tmp_path / "killed", moved, resume=True, **training).finish()
    assert "trained with other settings" not in output
    whole, resumed = (torch.load(last_checkpoint(tmp_path / run), weights_only=True) for run in ("whole", "killed"))
    assert whole["global_step"] == resumed["global_step"] == 32
    for part in ("state_dict", "current_model_state"):  # averaged weights, trained weights
        for name, value in whole[part].items():
            assert torch.equal(resumed[part][name], value), name


def test_two_processes_train_as_one(roads, detector, tmp_path):
    # Plain gradient sums of both are compared through Adam's first moments; tiny steps keep rounding from piling up.
    # Five images to validate: the shares of the processes differ.
    listed = (roads / "list/val.txt").read_text().splitlines(keepends=True)
    (roads / "list/five.txt").write_text("".join(listed[:5]))
    extra = 'config.data.batch_size = 4; config.data.val_list = "list/five.txt"'
    runs = ("one", "two")
    training = {"extra": extra, "epochs": 2, "learning_rate": 1e-6, "validate_every": 2}
    (port,) = free_ports(1)
    arguments = (roads, tmp_path / "two", detector)
    ranks = [
        ForkedProcess(partial(train_as, rank, port, **training), *arguments, output_file=tmp_path / f"{rank}.txt")
        for rank in range(2)
    ]
    start_training(roads, tmp_path / "one", detector, **training).finish()
    for process in ranks:
        process.finish()
    one, two = (logged(tmp_path / name, "loss") for name in runs)
    assert len(one) == 4
    assert two == pytest.approx(one, rel=1e-5)
    for column in ("val/F1@50", "val/detector_mF1", "val/detector_recall@50"):
        assert logged(tmp_path / "two", column) == pytest.approx(logged(tmp_path / "one", column), abs=1e-6)
    one, two = (torch.load(last_checkpoint(tmp_path / name), weights_only=True) for name in runs)
    one, two = (run["optimizer_states"][0]["state"] for run in (one, two))
    assert sum(bool(state["exp_avg"].any()) for state in one.values()) > 20
    for key, state in one.items():
        difference = (two[key]["exp_avg"] - state["exp_avg"]).norm()
        assert difference <= 1e-3 * state["exp_avg"].norm() + 1e-7, key


def test_a_checkpoint_of_another_network_is_refused_on_resume(roads, detector, tmp_path):
    config = small_lanelm_config(roads, tmp_path, detector, epochs=1, validate_every=0, log_every=1)
    train(config)
    config.training.epochs = 2
    config.lanelm.network.ffn_dim = 32
    metrics = (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(
        UserError, match=r"^lanelm\.network\.ffn_dim is 32 and was 64 in .*epoch_0000\.ckpt: .* keeps it"
    ):
        train(config, resume=True)
    assert (tmp_path / "metrics.csv").read_bytes() == metrics


@pytest.mark.parametrize("kind", ["full", "plain"])
def test_a_diverged_training_is_one_line(kind, roads, detector, tmp_path):
    config = small_lanelm_config(
        roads, tmp_path, detector, epochs=5, validate_every=0, learning_rate=1e30, ema_momentum=0.1
    )
    config.lanelm.variant = kind
    config.data.batch_size = 4
    with pytest.raises(
        UserError, match=r"^training diverged: the loss is not finite .* at step [23] of epoch 1; lower"
    ):
        train(config)
    assert not (tmp_path / "checkpoints").exists()
