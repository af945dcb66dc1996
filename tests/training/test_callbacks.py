"""Callbacks of a training."""

import warnings
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clrernetlm.training.callbacks import DataWaitMonitor


class Clock:
    """A clock that advances only when told, in seconds, so that a busy machine does not matter."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Late(Dataset[Tensor]):
    """Ten images that each advance the clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        self.clock.now += self.seconds
        return torch.ones(1)


class Slow(pl.LightningModule):
    """A model whose step advances the clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.layer, self.clock, self.seconds = torch.nn.Linear(1, 1), clock, seconds

    def training_step(self, batch: Tensor) -> Tensor:
        self.clock.now += self.seconds
        return self.layer(batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters())


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(("loading", "computing"), [(3.0, 1.0), (1.0, 3.0), (1.0, 9.0)])
def test_training_warns_that_it_waited_for_images(tmp_path: Path, loading: float, computing: float) -> None:
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[DataWaitMonitor(clock)],
    )
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        trainer.fit(Slow(clock, computing), DataLoader(Late(clock, loading)))
    share = float(trainer.callback_metrics["data_wait"])
    # Ten steps, and nine images between them: the first does not count.
    assert share == pytest.approx(9 * loading / (9 * loading + 10 * computing))
    said = [str(one.message) for one in heard if "waited for images" in str(one.message)]
    assert bool(said) == (share > DataWaitMonitor.WARN_ABOVE)
    assert all(f"waited for images {100 * share:.0f} % of the last epoch" in line for line in said)
