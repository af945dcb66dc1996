"""Suggests the closest known name for a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

SHORT_LENGTH = 3  # letters


# Names in other programs -> options and settings here; empty: similar names have another meaning, suggest none.
SYNONYMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("amp", "fp16", "bf16", "half"), ("precision", "training.precision")),
    **dict.fromkeys(("conf_thres", "conf_thresh", "confidence", "threshold"), ("conf", "model.decode.conf_threshold")),
    **dict.fromkeys(("output", "output_dir", "save_dir", "project"), ("out",)),
    "gpu": ("device", "training.device"),
    "gpus": ("training.num_devices",),
    "weights": ("model", "checkpoint"),
    "model_path": ("model",),
    "batch_size": ("batch", "data.batch_size"),
    "workers": ("workers", "data.num_workers"),
    "source": (),
    "img": (),
}


def closest(wrong: str, names: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Find up to `count` of `names` that resemble `wrong`, best first; of dotted names the last part weighs most.

    Names in `SYNONYMS` are translated instead. Names of up to `SHORT_LENGTH` letters need a greater similarity.
    """
    names = list(names)
    if (synonyms := SYNONYMS.get(_normalised(wrong))) is not None:
        return [name for name in names if _normalised(name) in synonyms][:count]
    if len(wrong) <= SHORT_LENGTH:
        cutoff = max(cutoff, 0.7)
    ranked = sorted(((_similarity(wrong, name), name) for name in names), key=lambda pair: (-pair[0], pair[1]))
    return [name for score, name in ranked[:count] if score >= cutoff]


def did_you_mean(wrong: str, names: Iterable[str], prefix: str = "") -> str:
    """Format the closest name as `; did you mean X?`, to append to a message; empty if none is close."""
    return "".join(f"; did you mean {prefix}{name}?" for name in closest(wrong, names))


def _similarity(wrong: str, name: str) -> float:
    """Compute a similarity 0..1; the group of a dotted name counts a tenth, its last part the rest."""
    wrong_group, _, wrong_leaf = _normalised(wrong).rpartition(".")
    group, _, leaf = _normalised(name).rpartition(".")
    return 0.9 * _leaf_similarity(wrong_leaf, leaf) + 0.1 * SequenceMatcher(None, wrong_group, group).ratio()


def _leaf_similarity(wrong: str, leaf: str) -> float:
    initials = "".join(word[:1] for word in leaf.split("_"))
    if wrong == initials:
        return 0.9  # lr -> learning_rate
    if len(wrong) > 2 and set(wrong.split("_")) & set(leaf.split("_")):
        return max(0.75, SequenceMatcher(None, wrong, leaf).ratio())  # conf -> conf_threshold
    return SequenceMatcher(None, wrong, leaf).ratio()


def _normalised(name: str) -> str:
    return name.lower().replace("-", "_")
