"""What watches a training."""

import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clrernetlm.engine.callbacks import DataWait


class Late(Dataset[Tensor]):
    """Ten images that take a while each."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        time.sleep(self.seconds)
        return torch.ones(1)


class Slow(pl.LightningModule):
    """A model whose step takes a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.layer, self.seconds = torch.nn.Linear(1, 1), seconds

    def training_step(self, batch: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return self.layer(batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters())


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(("loading", "computing", "most"), [(0.02, 0.005, 1.0), (0.001, 0.02, 0.2)])
def test_training_says_that_it_waited_for_images(tmp_path: Path, loading: float, computing: float, most: float) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[DataWait()],
    )
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        trainer.fit(Slow(computing), DataLoader(Late(loading)))
    share = float(trainer.callback_metrics["data_wait"])
    waits = loading > computing
    assert (0.5 if waits else 0.0) < share < most
    assert any("waited for images" in str(one.message) for one in heard) == waits
