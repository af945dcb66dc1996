"""Defines the options of scoring that detector and LaneLM share: the files to write, and how to run."""

from __future__ import annotations

from dataclasses import dataclass

from clrernetlm.datasets.culane import Split
from clrernetlm.deploy.runtimes.base import Backend


@dataclass(frozen=True)
class ScoreOutputs:
    """Selects the files to write. Results of an earlier run are replaced with `overwrite`, other files never.

    `out`: folder for the predictions. `json`: file for the scores. `report`: file for an HTML page. None: not written.
    """

    out: str | None = None
    json: str | None = None
    report: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class RunOptions:
    """Selects the split to score, and the device, runtime and processes that compute.

    `processes` on this machine share the images, see `process_group`; `backend` and `trust_code` as in
    `deploy.load_model.load_model`.
    """

    split: Split = "test"
    device: str = "auto"
    backend: Backend | None = None
    processes: int = 1
    trust_code: bool = False
