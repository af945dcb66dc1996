"""Slow steps print one line on standard error, once."""

import warnings
from pathlib import Path

import pytest
import torch

from clrernetlm import Predictor, UserError
from clrernetlm.core import notices
from clrernetlm.core import numba_jit as jit
from clrernetlm.core.notices import print_once
from clrernetlm.deploy.runtimes import export_cache as cache
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.weights.checkpoint import write_checkpoint
from tests.helpers.small_detector import small_config


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_printed", set())


def test_a_notice_is_printed_once_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_once("this takes a minute")
    print_once("this takes a minute")
    assert capsys.readouterr() == ("", "clrernetlm: this takes a minute\n")


def test_compiling_prints_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jit, "kernel_folder", lambda: tmp_path)

    @jit.kernel
    def double(x: float) -> float:
        return 2 * x

    assert [double(2.0), double(3.0)] == [4.0, 6.0]
    assert (
        capsys.readouterr().err == "clrernetlm: compiling for this processor, which takes some seconds the first time\n"
    )


def test_exporting_prints_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("clrernetlm.deploy.export.exporter.export_model", lambda *_, **named: named["out"].touch())
    for _ in range(2):
        cache.export_into(tmp_path, "small", small_config(tmp_path, tmp_path), "random", "onnxruntime", "fp32")
    told = f"clrernetlm: exporting small for onnxruntime, which takes up to a minute; kept in {tmp_path}\n"
    assert capsys.readouterr().err == told


def test_a_missing_segmentation_decoder_is_mentioned_only_for_training(tmp_path: Path) -> None:
    config = small_config(tmp_path, tmp_path)
    torch.manual_seed(0)
    state = CLRerNet(config.model).official_state_dict()
    without = {name: value for name, value in state.items() if "seg_decoder" not in name}
    write_checkpoint({"state_dict": without}, tmp_path / "weights.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor = Predictor(config, tmp_path / "weights.pth")
    with pytest.warns(UserWarning, match="segmentation decoder"):
        CLRerNet(config.model).load_official_state_dict(without)
    with pytest.raises(UserError, match=r"^complete: small is a detector.*use Predictor\(\)"):
        predictor.complete([[1.0, 2.0]])
