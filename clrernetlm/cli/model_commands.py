"""Defines the commands that export, list, download and pack trained models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clrernetlm.cli.command import Command, WithCheckpoint, WithResults, WithSettings, option, positional
from clrernetlm.core.errors import UserError


@dataclass(kw_only=True)
class Export(WithCheckpoint, WithResults):
    """Write a model for another runtime: ONNX, OpenVINO or a torch.export program."""

    to: Literal["onnx", "openvino", "torch"] = option(
        "onnx", help="the runtime; torch writes a .pt2, which can run code and is opened with --trust-code only"
    )
    precision: Literal["fp32", "fp16", "bf16", "int8"] = option(
        "fp32", help="fp16: half the file; bf16, int8: faster where supported"
    )
    dynamic_batch: bool = option(False, help="any number of images at a time, instead of one")
    calibration: str | None = option(
        None, metavar="FOLDER|LIST", help="images for int8: a folder, or a file with one path per line"
    )
    out: str | None = option(
        None, metavar="FILE", help="file to write, for LaneLM a folder; default: named after the model"
    )
    device: Literal["auto", "cpu"] = option("cpu", help="tracing needs no other")

    def run(self) -> int:
        from clrernetlm.cli.size_and_crop import fix_given_crop
        from clrernetlm.deploy.export import export_model

        config, checkpoint = self.find_model("export")
        export_model(
            fix_given_crop(config, self.overrides),
            checkpoint,
            self.to,
            precision=self.precision,
            dynamic_batch=self.dynamic_batch,
            out=self.out,
            calibration=self.calibration,
            overwrite=self.overwrite,
        )
        return 0


@dataclass(kw_only=True)
class Models(Command):
    """List the models that are ready to use; `models get NAME` downloads a released one."""

    arguments: tuple[str, ...] = positional((), metavar="[get NAME]", help="which model to download")
    to: str | None = option(None, metavar="DIR", help="download to this folder; default: the cache")

    def run(self) -> int:
        from clrernetlm.weights.listing import get_model, print_models

        if not self.arguments:
            print_models()
        elif self.arguments[0] == "get" and len(self.arguments) == 2:
            get_model(self.arguments[1], self.to)
        else:
            raise UserError(f"models: {' '.join(self.arguments)}: not understood; use `models` or `models get NAME`")
        return 0


@dataclass(kw_only=True)
class Pack(WithSettings, WithResults):
    """Make one file for use from a training checkpoint: weights and settings, half the size."""

    checkpoint: str = positional(metavar="CHECKPOINT", help=".ckpt of a training; that of LaneLM includes its detector")
    out: str = positional(metavar="OUT.safetensors", help="the file to write")
    precision: Literal["fp16", "fp32"] = option("fp16", help="precision of the weights in the file")
    config: str | None = option(
        None, metavar="CONFIG", help="settings instead of those in the checkpoint; a released .pth has none"
    )

    def run(self) -> int:
        from clrernetlm.weights.pack import pack_weights

        pack_weights(self.checkpoint, self.out, self.precision, self.config, self.overrides, self.overwrite)
        return 0
