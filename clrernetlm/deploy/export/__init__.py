"""Models as files that other runtimes read: ONNX, OpenVINO and torch.export programs."""

from __future__ import annotations

from clrernetlm.deploy.export.export import Precision, Target, export_model

__all__ = ["Precision", "Target", "export_model"]
