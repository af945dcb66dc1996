"""Packed files: tensors are read back, rounded as documented; broken or foreign files are errors."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from clrernetlm import UserError
from clrernetlm.config import Config, from_dict
from clrernetlm.weights.checkpoint import read_checkpoint
from clrernetlm.weights.safetensors_file import KEY, SMALL, read_packed, read_settings, write_packed


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "kernel": torch.randn(64, 70, generator=generator).t(),  # not contiguous
        "variance": torch.rand(8, generator=generator) * 1e-7,
        "batches": torch.tensor(3),
    }


def settings_of_a_model() -> Config:
    config = Config(name="tiny")
    config.model.decode.conf_threshold = 0.37
    return config


def refusal(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_large_tensors_are_rounded_to_fp16_and_nothing_else_changes(tmp_path: Path) -> None:
    file, given_weights = tmp_path / "new" / "a.safetensors", weights()
    write_packed(given_weights, settings_of_a_model(), file)
    assert {name: value.dtype for name, value in load_file(file).items()} == {
        "kernel": torch.float16,
        "variance": torch.float32,
        "batches": torch.int64,
    }
    read = read_checkpoint(file)
    assert torch.equal(read["state_dict"]["kernel"], given_weights["kernel"].half().float())
    assert read["state_dict"]["kernel"].dtype == torch.float32
    assert torch.equal(read["state_dict"]["variance"], given_weights["variance"])
    assert torch.equal(read["state_dict"]["batches"], given_weights["batches"])
    assert from_dict(read["config"]) == from_dict(read_settings(file)) == settings_of_a_model()
    assert list(tmp_path.joinpath("new").iterdir()) == [file]


def test_fp32_is_exact(tmp_path: Path) -> None:
    write_packed(weights(), Config(), tmp_path / "a.safetensors", "fp32")
    read = read_packed(tmp_path / "a.safetensors")["state_dict"]
    assert all(torch.equal(read[name], value) for name, value in weights().items())


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_packed(weights(), settings_of_a_model(), tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("bad", [1e5, float("inf"), float("nan")])
def test_values_beyond_fp16_are_named(bad: float, tmp_path: Path) -> None:
    kernel = torch.zeros(SMALL)
    kernel[5] = bad
    message = refusal(write_packed, {"some.kernel": kernel}, Config(), tmp_path / "a.safetensors")
    assert message.startswith("some.kernel: values beyond the range of fp16")
    assert not list(tmp_path.iterdir())


def test_foreign_safetensors_have_weights_but_no_settings(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert read_settings(tmp_path / "a.safetensors") is None
    assert set(read_checkpoint(tmp_path / "a.safetensors")) == {"state_dict"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable"),
        ("[" * 100_000, "not readable"),
        ("3", "not readable"),
        ('{"format": 1}', "not readable"),
        (json.dumps({"format": 2, "config": {}}), "packed in format 2, this version reads 1; update clrernetlm"),
    ],
)
def test_broken_settings_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"x": torch.ones(2)}, file, metadata={KEY: text})
    for read in (read_packed, read_settings, read_checkpoint):
        assert refusal(read, file).startswith(f"{file}: ")
        assert message in refusal(read, file)


@pytest.mark.parametrize("size", [1 << 22, 1 << 63])
def test_a_list_of_tensors_that_no_model_has_is_refused(size: int, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(size.to_bytes(8, "little") + b"{}".ljust(min(size, 1 << 22)))
    for read in (read_settings, read_checkpoint):
        assert refusal(read, file).startswith(f"{file}: not a checkpoint, or cut short")


def test_empty_absent_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    assert refusal(read_checkpoint, file) == f"{file}: no such checkpoint; check the path"
    for content in (b"", b"\0" * 100, b"PK\x03\x04" + b"\0" * 200, b"version https://git-lfs.github.com/spec/v1\n"):
        file.write_bytes(content)
        assert refusal(read_checkpoint, file).startswith(f"{file}: not a checkpoint, or cut short")
        assert refusal(read_settings, file).startswith(f"{file}: not a checkpoint, or cut short")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), position=st.integers(0, 4000), byte=st.integers(0, 255))
def test_damaged_files_raise_only_one_line_errors(cut: float, position: int, byte: int, tmp_path: Path) -> None:
    whole, file = tmp_path / "whole.safetensors", tmp_path / "damaged.safetensors"
    if not whole.exists():
        write_packed(weights(), Config(), whole)
    content = bytearray(whole.read_bytes())
    content[position] = byte
    file.write_bytes(content[: round(len(content) * cut)] if position % 2 else content)
    try:
        assert isinstance(read_checkpoint(file), dict)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
