"""Builds the networks, fills them from checkpoints, and saves LaneLM with its detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from clrernetlm.config.old_names import with_current_names
from clrernetlm.config.schema import ClrernetConfig, Config
from clrernetlm.config.serialization import flatten, to_dict
from clrernetlm.core.argument_checks import check_arguments, short_repr
from clrernetlm.core.device import select_device
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.version import __version__
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.clrernet.state_dict import bare_weights, require_finite, with_step_counters
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase, PromptableDetector
from clrernetlm.models.lanelm.prototype import PlainLaneLMDetector
from clrernetlm.weights.checkpoint import load_weights, read_checkpoint, write_checkpoint
from clrernetlm.weights.registry import RANDOM
from clrernetlm.weights.resolve import resolve_model

VARIANTS: dict[str, type[LaneLMDetectorBase]] = {"full": PromptableDetector, "plain": PlainLaneLMDetector}
LANELM_PREFIXES = ("detector.", "lanelm.", "fovea.")
# Settings that weights depend on. Those of decoding and scoring may differ from training.
NETWORK_SETTINGS = (
    "model.backbone.name",
    "model.head.",
    "model.viewport.width",
    "model.viewport.height",
    "lanelm.network.",
)


def build_lanelm(config: Config) -> LaneLMDetectorBase:
    """Build the detector and the language model that `config.lanelm.variant` names, with random weights."""
    return VARIANTS[config.lanelm.variant](config)


@check_arguments
def init_lanelm(
    config: Config | PathLike | None, checkpoint: PathLike | None = None, device: str = "cpu"
) -> PromptableDetector:
    """Build CLRerNet and LaneLM in eval mode on `device`, with the weights of a LaneLM checkpoint.

    The checkpoint is one of a training (`.ckpt`) or of `save_lanelm` (`.pth`); both hold the detector too. Names and
    "random" as in `init_detector`. No code in it runs. Raises UserError for `lanelm.variant` "plain", which takes no
    prompts; for a checkpoint of a bare CLRerNet; for one trained with other settings of the network, naming the first;
    and for an absent device.
    """
    settings, weights = resolve_model(config, checkpoint)
    if settings.lanelm.variant != "full":
        raise UserError(
            f"lanelm.variant: {settings.lanelm.variant} takes no prompts; use full, or init_lanelm_detector for its "
            "lanes"
        )
    model = _filled_lanelm(settings, weights, device)
    assert isinstance(model, PromptableDetector)
    return model


@check_arguments
def init_lanelm_detector(
    config: Config | PathLike | None, checkpoint: PathLike | None = None, device: str = "cpu"
) -> LaneLMDetectorBase:
    """Build as `init_lanelm`, for either variant; `decode_unprompted(run_detector(images))` returns its lanes."""
    settings, weights = resolve_model(config, checkpoint)
    return _filled_lanelm(settings, weights, device)


def build_network(settings: Config, weights: str, device: str = "cpu") -> CLRerNet | LaneLMDetectorBase:
    """Build the network that `settings.task` names in eval mode on `device`, with its weights.

    `weights`: a file or `RANDOM`, as `resolve_model` returns it. Raises UserError for an unfit checkpoint and an absent
    device.
    """
    return (_filled_lanelm if settings.task == "lanelm" else _filled_detector)(settings, weights, device)


def _filled_lanelm(settings: Config, weights: str, device: str) -> LaneLMDetectorBase:
    target = select_device(device)
    model = build_lanelm(settings)
    if weights != RANDOM:
        load_lanelm_weights(model, weights)
    return model.to(target).eval()


def _filled_detector(settings: Config, weights: str, device: str) -> CLRerNet:
    target = select_device(device)
    model = CLRerNet(settings.model)
    if weights != RANDOM:
        load_weights(model, weights, to_train=False)
    return model.to(target).eval()


FOVEA_PREFIX = "fovea."


def load_lanelm_weights(model: LaneLMDetectorBase, path: PathLike, add_fovea: bool = False) -> None:
    """Fill detector and language model from a LaneLM checkpoint; raises UserError, and the model is then as it was.

    A fovea in the file is ignored by a model without one. With `add_fovea` the fovea of the model may be missing in the
    file, and keeps its weights.
    """
    checkpoint = read_checkpoint(path)
    weights = lanelm_weights(checkpoint)
    if not any(name.startswith("lanelm.") for name in weights):
        raise UserError(f"{path}: holds no LaneLM; if it is a CLRerNet, train LaneLM on it with lanelm.detector={path}")
    trained_with = checkpoint.get("config")
    if isinstance(trained_with, Mapping):
        changed = changed_setting(model.config, trained_with)
        if changed is not None:
            raise UserError(f"{path}: {changed}")
    try:
        require_finite(weights)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    own = model.state_dict()
    stored_fovea = any(name.startswith(FOVEA_PREFIX) for name in weights)
    if not model.needs_crops:
        weights = {name: value for name, value in weights.items() if not name.startswith(FOVEA_PREFIX)}
    elif add_fovea and not stored_fovea:
        weights |= {name: value for name, value in own.items() if name.startswith(FOVEA_PREFIX)}
    weights = with_step_counters(own, weights)
    wrong = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    wrong += [name for name in weights if name not in own]
    if wrong:
        raise UserError(
            f"{path}: {len(wrong)} weights do not fit the configuration, {wrong[0]} among them; it was made for other "
            "settings of model or lanelm.network, or by another version"
        )
    model.load_state_dict(weights)


def lanelm_weights(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Select weights under the names of `LaneLMDetectorBase` from its own state dict or a checkpoint."""
    return {
        name: value for name, value in bare_weights(state, LANELM_PREFIXES).items() if name.startswith(LANELM_PREFIXES)
    }


def changed_setting(config: Config, trained_with: Mapping[str, Any]) -> str | None:
    """Describe the first setting of the network that differs from the settings in a checkpoint; None if none does.

    Settings that the tree lacks, because an older version wrote it, count as equal.
    """
    trained_with = with_current_names(trained_with)
    network = trained_with.get("lanelm", {}).get("network", {})
    both_have_fovea = config.lanelm.network.fovea and network.get("fovea", False)
    for name, current in flatten(config).items():
        if name != "lanelm.variant" and not name.startswith(NETWORK_SETTINGS):
            continue
        if name.startswith("lanelm.network.fovea") and not both_have_fovea:
            continue  # it can be switched off, and added by a training
        stored: Any = trained_with
        for part in name.split("."):
            stored = stored.get(part, current) if isinstance(stored, Mapping) else current
        if (tuple(stored) if isinstance(stored, list) else stored) != current:
            before, now = (short_repr(value).strip("'") for value in (stored, current))
            return f"trained with {name}={before}, the configuration says {now}; use the configuration it belongs to"
    return None


def save_lanelm(model: LaneLMDetectorBase, path: PathLike) -> None:
    """Write the weights of detector and language model with their configuration and nothing else; atomic.

    `init_lanelm` reads the file, and `init_detector` takes the detector from it. Raises UserError when it cannot be
    written.
    """
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    write_checkpoint({"state_dict": weights, "config": to_dict(model.config), "clrernetlm_version": __version__}, path)


@check_arguments
def init_detector(
    config: Config | ClrernetConfig | PathLike | None, checkpoint: PathLike | None = None, device: str = "cpu"
) -> CLRerNet:
    """Build a CLRerNet in eval mode on `device` (cpu, cuda, cuda:N, mps, auto), with the weights of `checkpoint`.

    `config` is a configuration, a config file or the name of one or of a model, `checkpoint` a file or the name of a
    model, which may stand alone; "random" makes random weights. Nothing is ever downloaded. Raises UserError for an
    unknown config, missing weights, an unfit checkpoint and an absent device.
    """
    full_config = Config(model=config) if isinstance(config, ClrernetConfig) else config
    select_device(device)  # an absent device is noticed before any file is read
    settings, weights = resolve_model(full_config, checkpoint)
    return _filled_detector(settings, weights, device)


def build_frozen_clrernet(config: Config | PathLike, checkpoint: PathLike | None, device: str = "cpu") -> CLRerNet:
    """Build a CLRerNet in eval mode whose weights take no gradient; arguments and errors as for `init_detector`."""
    return init_detector(config, checkpoint, device).requires_grad_(False)
