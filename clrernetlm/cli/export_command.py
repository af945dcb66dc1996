"""The command that writes models for other runtimes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from clrernetlm.cli.base import WithCheckpoint, WithResults


@dataclass(kw_only=True)
class Export(WithCheckpoint, WithResults):
    """Write a model for another runtime: ONNX, OpenVINO or a torch.export program."""

    to: Annotated[
        Literal["onnx", "openvino", "torch"],
        arg(help="the runtime; torch writes a .pt2, which can run code and is opened with --trust-code only"),
    ] = "onnx"
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"], arg(help="fp16: half the file; bf16, int8: faster where supported")
    ] = "fp32"
    # Any number of images at a time, instead of one.
    dynamic_batch: bool = False
    calibration: Annotated[
        str | None, arg(metavar="FOLDER|LIST", help="images for int8: a folder, or a file with a path a line")
    ] = None
    out: Annotated[
        str | None, arg(metavar="FILE", help="file to write, for LaneLM a folder; default: named after the model")
    ] = None
    device: Annotated[Literal["auto", "cpu"], arg(help="tracing needs no other")] = "cpu"

    def run(self) -> int:
        from clrernetlm.cli.options import settle_crop
        from clrernetlm.deploy.export import export_model

        config, checkpoint = self.load_model("export")
        export_model(
            settle_crop(config, self.overrides),
            checkpoint,
            self.to,
            precision=self.precision,
            dynamic_batch=self.dynamic_batch,
            out=self.out,
            calibration=self.calibration,
            overwrite=self.overwrite,
        )
        return 0
