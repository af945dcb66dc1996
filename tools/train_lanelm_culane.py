"""Train LaneLM on the features of a frozen CLRerNet, with the command line of the founding prototype.

    python tools/train_lanelm_culane.py --config configs/clrernet/culane/clrernet_culane_dla34_ema.py \\
        --checkpoint clrernet_culane_dla34_ema.pth --data-root dataset --epochs 1 --batch-size 16

`clrernetlm train lanelm_512_dla34 --lanelm.detector FILE` does the same, with every setting.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works from a checkout that is not installed

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.errors import UserError

if TYPE_CHECKING:
    from clrernetlm.config import Config

TRAIN_LIST, DIFF_FILE = "list/train_gt.txt", "list/train_diffs.npz"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that explains a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line. Raises UserError for a mistake."""
    first, _, rest = (__doc__ or "").partition("\n\n")
    parser = Parser(description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", default="clrernet_culane_dla34_ema", help="config of the detector (%(default)s)")
    add("--checkpoint", required=True, help="weights of the detector")
    add("--data-root", default="dataset", help="folder of the data set (%(default)s)")
    add("--train-list", default=TRAIN_LIST, help="relative to the working directory or the data root (%(default)s)")
    add("--diff-file", help=f"frame differences; default: {DIFF_FILE} under the data root where it exists")
    add("--epochs", type=int, default=5, help="(%(default)s)")
    add("--batch-size", type=int, default=4, help="images a step (%(default)s)")
    add("--num-workers", type=int, default=4, help="(%(default)s)")
    add("--device", default="cuda", help="cuda, cuda:N, cpu, mps or auto (%(default)s; cpu where there is no CUDA)")
    add("--work-dir", default="work_dirs/lanelm_culane", help="(%(default)s)")
    add("--lr", type=float, default=1e-3, help="highest learning rate of AdamW (%(default)s)")
    add("--embed-dim", type=int, default=256, help="(%(default)s)")
    add("--num-layers", type=int, default=3, help="(%(default)s)")
    add("--num-heads", type=int, default=8, help="(%(default)s)")
    add("--ffn-dim", type=int, default=512, help="(%(default)s)")
    add("--num-points", type=int, default=40, help="rows a lane can have a keypoint on (%(default)s)")
    add("--nbins-x", type=int, default=800, help="bins of x (%(default)s)")
    add("--plain", action="store_true", help="the prototype's plain model instead of the full one")
    add("--resume", action="store_true", help="continue from the last checkpoint of the work directory")
    return parser.parse_args(arguments)


def find_file(root: Path, path: str) -> Path | None:
    """Find `path` relative to the working directory, else to the data root; None if neither exists."""
    return next((found.resolve() for found in (Path(path), root / path) if found.exists()), None)


def build_config(options: argparse.Namespace) -> Config:
    """Convert the options to the settings of a training. Raises UserError for values out of range."""
    from clrernetlm.config import LaneLMConfig, LaneLMNetworkConfig, TrainingConfig, load_config
    from clrernetlm.config.validation import validate

    config = load_config(options.config)
    root = Path(options.data_root)
    config.task, config.name = "lanelm", "lanelm_culane"
    config.lanelm = LaneLMConfig(
        variant="plain" if options.plain else "full",
        detector=options.checkpoint,
        network=LaneLMNetworkConfig(
            num_steps=options.num_points,
            nbins_x=options.nbins_x,
            embed_dim=options.embed_dim,
            num_layers=options.num_layers,
            num_heads=options.num_heads,
            ffn_dim=options.ffn_dim,
        ),
    )
    config.data.root = options.data_root
    config.data.train_list = str(find_file(root, options.train_list) or options.train_list)
    config.data.diff_file = difference_file(root, options.diff_file)
    config.data.batch_size, config.data.num_workers = options.batch_size, options.num_workers
    config.training = TrainingConfig(
        epochs=options.epochs,
        learning_rate=options.lr,
        betas=(0.9, 0.98),
        weight_decay=0.05,
        clip_norm=1.0,
        log_every=1,
        validate_every=int((root / config.data.val_list).exists()),
        device=available_device(options.device),
        work_dir=options.work_dir,
    )
    validate(config)
    return config


def difference_file(root: Path, given: str | None) -> str | None:
    """Find the file of frame differences; None, with a warning, if the default one is missing.

    Raises UserError if `given` is missing.
    """
    found = find_file(root, given) if given else root / DIFF_FILE
    if found is not None and found.exists():
        return str(found.resolve())
    if given:
        raise UserError(
            f"--diff-file: {given} is neither in the working directory nor under {root}; leave the option out to use "
            "all images"
        )
    warn(f"{root / DIFF_FILE} does not exist; training on every image, however little it moved")
    return None


def available_device(device: str) -> str:
    """Return the device, or `cpu` with a warning if it is a CUDA device and PyTorch finds none."""
    import torch

    if device.partition(":")[0] == "cuda" and not torch.cuda.is_available():
        warn("CUDA is not available; training on the CPU")
        return "cpu"
    return device


def warn(message: str) -> None:
    """Print a warning to standard error."""
    print(f"warning: {message}", file=sys.stderr)


def run(arguments: list[str] | None) -> None:
    """Train with the options of the command line. Raises UserError for mistakes and missing files."""
    options = parse_options(arguments)
    config = build_config(options)
    from clrernetlm.training.callbacks import SaveLaneLMEachEpoch
    from clrernetlm.training.train import train

    pattern = f"lanelm_culane_{config.model.backbone.name}_epoch{{}}.pth"
    train(config, resume=options.resume, callbacks=[SaveLaneLMEachEpoch(Path(options.work_dir), pattern)])


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; returns the exit code, as `clrernetlm` does."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `clrernetlm.cli` does, which says why
    return exit_code_of(lambda: run(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
