"""Models as files that other runtimes read: ONNX, OpenVINO and torch.export programs."""

from __future__ import annotations

from clrernetlm.deploy.export.exporter import export_model
from clrernetlm.deploy.export.write_graph import Precision, Target

__all__ = ["Precision", "Target", "export_model"]
