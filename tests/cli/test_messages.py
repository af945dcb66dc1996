"""Messages of the library name parameters; the command line prints options instead."""

import pytest

from clrernetlm.cli import main
from clrernetlm.cli.messages import with_options

OWN = {"precision": "--precision", "overwrite": "--overwrite", "batches": "--batch"}
ALL = {**OWN, "dynamic_batch": "--dynamic-batch"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("precision: int8 is not offered", "--precision: int8 is not offered"),
        ("batches: 0 is out of range", "--batch: 0 is out of range"),
        ("a.json: exists; allow it with `overwrite=True`", "a.json: exists; allow it with --overwrite"),
        ("w: too large; use `precision=fp32`", "w: too large; use --precision fp32"),
        (
            "images: 2, but ...; export it with `dynamic_batch=True`",
            "images: 2, but ...; export it with --dynamic-batch",
        ),
        ("dynamic_batch: an option of another command", "dynamic_batch: an option of another command"),
        ("x: get it with `clrernetlm models get x`", "x: get it with `clrernetlm models get x`"),
        ("data.batch_size: 0 is out of range", "data.batch_size: 0 is out of range"),
        ("trained with precision=fp16", "trained with precision=fp16"),
    ],
)
def test_parameters_in_messages_become_options(message: str, expected: str) -> None:
    assert with_options(message, OWN, ALL, ["detect", "a.jpg"]) == expected


def test_a_file_named_like_a_parameter_keeps_its_name() -> None:
    message = "precision: no such image"
    assert with_options(message, OWN, ALL, ["detect", "precision"]) == message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("test roads --prompts 2 2", "error: --prompts: 2 2 names one twice"),
        ("test roads --processes 0", "error: --processes: 0 is not a number of processes"),
        ("export roads_detector --precision bf16", "error: --precision: bf16 is not offered for onnx"),
        ("detect x.jpg --crop 2", "error: --crop: 2 is not TOP"),
        ("synth out --train 1 --val 1 --test 1 --randomization x", "error: --randomization: x: no such"),
        ("detect conf", "error: conf: no such image, folder, video or config"),
    ],
)
def test_errors_of_commands_name_options(words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr().err.startswith(expected)
