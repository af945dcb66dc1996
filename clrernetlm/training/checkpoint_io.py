"""Writes training checkpoints atomically, and reads them without running code they may contain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO

from clrernetlm.core.errors import UserError
from clrernetlm.weights.checkpoint import write_checkpoint
from clrernetlm.weights.torch_archive import read_torch_file

LAST_PATTERN = "epoch_*.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints through a temporary file and a rename.

    A full disk or a killed process leaves the previous checkpoint untouched; a full disk raises UserError naming the
    file. Reading returns only tensors on the CPU and plain values, whatever else the file holds.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        write_checkpoint(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        try:
            checkpoint = read_torch_file(Path(path))
        except FileNotFoundError:
            raise UserError(f"{path}: no such checkpoint; check the path") from None
        except Exception:  # damaged files can raise any exception in an unpickler
            raise UserError(f"{path}: not a training checkpoint, or cut short; use an earlier one") from None
        parts = {"epoch": int, "global_step": int, "config": dict, "state_dict": dict, "optimizer_states": list}
        if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(k), parts[k]) for k in parts):
            raise UserError(
                f"{path}: not a training checkpoint of this project; resume from one of a run, or begin a training "
                "with its weights by training.init_from"
            )
        return checkpoint


def last_checkpoint(work_dir: Path) -> Path | None:
    """Return the checkpoint of the latest epoch in `work_dir/checkpoints`, or None."""
    found = (work_dir / "checkpoints").glob(LAST_PATTERN)
    return max(found, key=epoch_number, default=None)


def epoch_number(path: Path) -> int:
    """Return the number in the name of a checkpoint such as `epoch_0012.ckpt`; -1 if it has none."""
    number = path.stem.removeprefix("epoch_")
    return int(number) if number.isdecimal() else -1
