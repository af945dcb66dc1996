"""Packs a training checkpoint into one file of weights and settings: `clrernetlm pack`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clrernetlm.config import load_config
from clrernetlm.config.overrides import apply_overrides
from clrernetlm.config.stored_settings import MACHINE_SETTINGS, strip_machine_settings
from clrernetlm.config.validation import validate
from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import sha256
from clrernetlm.core.overwrite_rules import ReadFiles, check_output
from clrernetlm.weights.build_models import build_network
from clrernetlm.weights.registry import weights_path
from clrernetlm.weights.resolve import stored_config
from clrernetlm.weights.safetensors_file import SUFFIX, Precision, is_packed, write_packed

__all__ = ["MACHINE_SETTINGS", "pack_weights", "strip_machine_settings"]


@check_arguments
def pack_weights(
    checkpoint: str,
    out: str,
    precision: Precision = "fp16",
    config: str | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write the weights and settings of a training checkpoint to one file, `out`; prints its name, size and SHA-256.

    A checkpoint of LaneLM includes its detector. `config`, a name or file, replaces the settings in the checkpoint and
    is needed where it has none (released .pth files). `overrides` are texts such as `model.decode.conf_threshold=0.38`.
    Paths of the training machine are left out. Raises UserError for a checkpoint that does not fit, and for an `out` of
    another suffix or one that cannot be written. An `out` that exists is replaced only if it is a packed model and
    `overwrite` allows it.
    """
    target = Path(out)
    if target.suffix != SUFFIX:
        raise UserError(f"{out}: a packed file ends in {SUFFIX}; use {target.with_suffix(SUFFIX)}")
    checkpoint = str(weights_path(checkpoint))
    reads = ReadFiles([checkpoint, *([config] if config is not None else [])])
    check_output(target, "a packed model", is_packed, parameter="out", overwrite=overwrite, reads=reads)
    settings = load_config(config) if config is not None else stored_config(checkpoint)
    if settings is None:
        raise UserError(f"{checkpoint}: holds no settings; name the `config` that it was trained with")
    settings = strip_machine_settings(apply_overrides(settings, overrides))
    settings.name = settings.name or target.stem
    validate(settings)
    # Filling a model checks every name and shape, and leaves optimiser states and the like behind.
    weights = build_network(settings, checkpoint).state_dict()
    write_packed(weights, settings, target, precision)
    values = sum(value.numel() for value in weights.values())
    print(
        f"{target}: {settings.name}, {settings.task}, {values / 1e6:.2f} million values in {precision}, "
        f"{target.stat().st_size / 1e6:.1f} MB\nsha256 {sha256(target)}"
    )
    return target
