"""Runs exported models: ONNX Runtime, OpenVINO and torch.export programs behind one small interface."""

from __future__ import annotations

from clrernetlm.deploy.runtimes.base import BACKENDS, Backend, Runtime
from clrernetlm.deploy.runtimes.open_runtime import open_runtime

__all__ = ["BACKENDS", "Backend", "Runtime", "open_runtime"]
