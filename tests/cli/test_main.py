import os
import subprocess
import sys
from pathlib import Path

import pytest

import clrernetlm
from clrernetlm.cli import main
from clrernetlm.cli.arguments import help_text, options_of, parse
from clrernetlm.cli.commands import COMMANDS, ScoreSplit, Speed, Train
from clrernetlm.cli.detect_command import Detect
from clrernetlm.core import notices

ROOT = Path(__file__).parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "clrernetlm", *words], capture_output=True, text=True, cwd=ROOT)


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: clrernetlm {name} ")
    assert all(f"  {label}" in text for label in options_of(COMMANDS[name]).values())


def test_help_fits_the_terminal_and_shows_required_options_and_defaults() -> None:
    lines = help_text("synth", width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert "  --train N             training images (required)" in lines
    assert "  --size WxH            image size (default: 1640x590)" in lines


def test_help_imports_no_heavy_library() -> None:
    code = "import sys; from clrernetlm.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "lightning", "scipy", "numba"} & set(done.stdout.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"clrernetlm {clrernetlm.__version__}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("trian", "trian: no such command; did you mean train?"),
        ("zzz", "zzz: no such command; use one of demo, train"),
        ("train", "train: CONFIG missing; see clrernetlm train --help"),
        ("test clrernet_culane_dla34", "test: CHECKPOINT missing"),
        ("test", "test: CONFIG and CHECKPOINT missing"),
        ("detect", "detect: INPUT missing"),
        ("detect a b c", "a: no such image, folder, video or config"),
        ("evaluate --pred a", "evaluate: --gt and --list and --json missing"),
        ("detect a b --out", "--out: a value is missing"),
        ("train clrernet_culane_dla34 --resume=yes", "train: --resume: takes no value"),
        ("speed clrernet_culane_dla34 --batch x", "--batch: 'x' is not an int"),
        ("tokens a.lines.txt --lane x", "--lane: 'x' is not an int"),
        ("test cfg a.pth --noise abc", "--noise: 'abc' is not a number"),
        ("detect -x.jpg", "-x.jpg: not expected"),
        ("detect a b c --out d --conf abc", "--conf: 'abc' is not a number"),
        ("detect a b c --out d --conf 3", "--conf: 3 is out of range; use 0 to 1"),
        ("evaluate --pred a --gt b --list c --json d --width x", "--width: 'x' is not an int"),
        ("evaluate --pred a --gt b --list c --json d --image-size 10", "--image-size: 10 is not WIDTHxHEIGHT"),
        ("evaluate --pred a --gt b --list c --json d --implementation x", "'x' is not one of clrernet, official"),
        ("train clrernet_culane_dla34 extra", "extra: not expected"),
        (
            "train clrernet_culane_dla34 --lr 3",
            "--lr: train has no such option; did you mean --training.learning_rate?",
        ),
        ("train clrernet_culane_dla34 --resum", "--resum: train has no such option; did you mean --resume?"),
        ("synth out --trian 3", "--trian: synth has no such option; did you mean --train?"),
        ("synth out --training.epochs 3", "--training.epochs: synth has no such option"),
        (
            "train clrernet_culane_dla34 --training.lr 3",
            "--training.lr: no such setting; did you mean training.learning",
        ),
        ("train clrernet_culane_dla34 --training.epochs abc", "training.epochs: 'abc' is not an int"),
        ("train clrernet_culane_dla34 training.epochs=0", "training.epochs: 0 is out of range"),
        ("train clrernet_culane_dla35", "clrernet_culane_dla35: no such config; did you mean clrernet_culane_dla34"),
        ("train clrernet_culane_dla34 --device gpu", "training.device: 'gpu' is unknown"),
        ("speed clrernet_culane_dla34 --batch 0", "--batch: 0 is out of range; use 1 or more"),
        ("speed clrernet_culane_dla34 --batch 2 -1", "--batch: -1 is out of range; use 1 or more"),
        ("speed clrernet_culane_dla34 --iterations 0", "--iterations: 0 is out of range; use 1 or more"),
        ("speed clrernet_culane_dla34 --batch", "speed: --batch: a value is missing; see clrernetlm speed --help"),
        ("test roads --prompts --noise 5", "test: --prompts: a value is missing"),
        ("check-data /no/such/folder", "/no/such/folder: no such folder"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    words: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in error_of(words.split(), capsys)


def test_an_invalid_choice_lists_the_valid_ones(capsys: pytest.CaptureFixture[str]) -> None:
    said = error_of(["detect", "x.jpg", "--backend", "y"], capsys)
    assert all(name in said for name in ("torch", "onnxruntime", "openvino"))
    assert "None" not in said


def test_options_settings_and_positional_words_mix() -> None:
    words = "--device cpu cfg --model.head.attention-size 4 5 weights.pth training.epochs=3 --json=out.json"
    command = parse("test", words.split())
    assert isinstance(command, ScoreSplit)
    overrides = ("--model.head.attention-size", "4", "5", "training.epochs=3")
    assert command == ScoreSplit(
        config="cfg", checkpoint="weights.pth", device="cpu", json="out.json", overrides=overrides
    )


def test_inputs_may_follow_options_and_two_hyphens() -> None:
    command = parse("detect", ["--conf", "-1e-3", "a.jpg", "--out", "x", "b.jpg", "--", "-c.jpg", "--out"])
    assert isinstance(command, Detect)
    assert (command.inputs, command.out, command.conf) == (("a.jpg", "b.jpg", "-c.jpg", "--out"), "x", -0.001)


def test_a_list_of_numbers_ends_before_the_first_word_that_is_no_number() -> None:
    command = parse("speed", ["--batch", "1", "2", "cfg", "weights.pth", "--precision", "fp32", "bf16"])
    assert isinstance(command, Speed)
    assert (command.config, command.checkpoint, command.batches) == ("cfg", "weights.pth", (1, 2))
    assert command.precision == ("fp32", "bf16")


def test_underscores_and_hyphens_in_options_are_equivalent() -> None:
    for option in ("--resume-from", "--resume_from"):
        command = parse("train", ["cfg", option, "a.ckpt"])
        assert isinstance(command, Train)
        assert command.resume_from == "a.ckpt"


def test_config_prints_every_setting_as_a_command_line_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "clrernet_culane_dla34_ema", "training.epochs=7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "training.epochs = 7" in lines
    assert "training.ema_momentum = 0.0001" in lines


def test_config_saves_a_translated_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = tmp_path / "theirs.py"
    theirs.write_text("model = dict(type='CLRerNet', odd=1)\ntrain_dataloader = dict(batch_size=12)")
    saved = tmp_path / "saved.py"
    assert main(["config", str(theirs), "--save", str(saved)]) == 0
    captured = capsys.readouterr()
    assert "# train_dataloader.batch_size -> data.batch_size" in captured.out
    assert captured.err == "clrernetlm: warning: theirs.py: model.odd: 1 has no counterpart here\n"
    assert main(["config", str(saved)]) == 0
    assert "data.batch_size = 12" in capsys.readouterr().out


def test_evaluate_scores_a_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, shift in (("gt", 0), ("pred", 2)):
        (tmp_path / folder).mkdir()
        points = " ".join(f"{700 + shift + (590 - y) // 2} {y}" for y in range(590, 290, -10))
        (tmp_path / folder / "a.lines.txt").write_text(points + "\n")
    (tmp_path / "list.txt").write_text("/a.jpg\n")
    words = ["evaluate", "--workers", "1", "--image-size", "1640x590"]
    for option, name in {"pred": "pred", "gt": "gt", "list": "list.txt", "json": "out.json"}.items():
        words += [f"--{option}", str(tmp_path / name)]
    assert main(words) == 0
    assert '"tp": 1' in (tmp_path / "out.json").read_text()


def test_generated_data_passes_the_check_and_damage_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, sheet = str(tmp_path / "roads"), str(tmp_path / "sheet.jpg")
    assert (
        main(["synth", root, "--train", "2", "--val", "1", "--test", "1", "--size", "410x148", "--workers", "1"]) == 0
    )
    check = ["check-data", root, "--lists", "list/train_gt.txt", "--contact-sheet", sheet, "--workers", "1"]
    assert main(check) == 0
    image = (Path(root) / "list" / "train_gt.txt").read_text().split()[0]
    Path(root + image).with_suffix(".lines.txt").write_text("1 2 3\n")
    capsys.readouterr()
    assert main(check) == 1
    assert ".lines.txt, line 1: " in capsys.readouterr().out.replace("\n", " ")


def test_the_exit_code_reaches_the_shell() -> None:
    done = run("train", "nope.py")
    assert done.returncode == 2
    assert done.stderr.startswith("error: nope.py: no such config")


@pytest.mark.parametrize("script", ["train", "test", "speed_test"])
def test_scripts_work_from_a_checkout_and_any_folder(script: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / f"{script}.py"), "nope", "weights.pth"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


@pytest.mark.skipif(os.name == "nt", reason="pipes close differently")
def test_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m clrernetlm config clrernet_culane_dla34 | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_gives_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS["config"], "run", interrupted)
    assert main(["config", "clrernet_culane_dla34"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "PASSIVE None"), ({"OMP_WAIT_POLICY": "active"}, "active None"), ({"GOMP_SPINCOUNT": "9"}, "None 9")],
)
def test_threads_wait_passively_by_default(given: dict[str, str], expected: str) -> None:
    """The variable is set before PyTorch is loaded, which reads it then."""
    code = (
        "import os, sys\n"
        "from clrernetlm.cli import main\n"
        "assert 'torch' not in sys.modules\n"
        "main(['--version'])\n"
        "print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))\n"
    )
    waiting = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in waiting} | given
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert done.stdout.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        ("train clrernet_culane_dla34 --amp", "did you mean --training.precision?"),
        ("speed clrernet_culane_dla34 --amp", "did you mean --precision?"),
        ("train clrernet_culane_dla34 --gpu 0", "did you mean --device?"),
        ("train clrernet_culane_dla34 --batch-size 4", "did you mean --data.batch_size?"),
        ("detect photo.jpg --confidence 0.3", "did you mean --conf?"),
        ("detect photo.jpg --weights mine.pth", "did you mean --model?"),
        ("train clrernet_culane_dla34 --xyz 4", "--xyz: train has no such option; see clrernetlm train --help"),
    ],
)
def test_option_names_of_other_programs_get_a_suggestion(
    words: str, suggested: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that are only spelt alike, such as --name for --amp, are not suggested."""
    assert main(words.split()) == 2
    assert suggested in capsys.readouterr().err


def test_missing_processes_and_devices_are_refused_before_large_imports() -> None:
    code = (
        "import sys; from clrernetlm.cli import main; "
        "print(main(['train', 'clrernet_culane_dla34', '--training.num-devices', '1024']), 'torch' in sys.modules); "
        "print(main(['detect', 'missing.jpg', '--device', 'cuda:9999']), 'lightning' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.split() == ["2", "False", "2", "False"], ended.stderr
    first, second = ended.stderr.splitlines()
    assert first.startswith("error: data.batch_size: 24 is not a multiple of the 1024 processes")
    assert second.startswith("error: --device: PyTorch finds no cuda:9999")


def test_the_former_name_of_an_option_works_and_prints_the_present_name_once(capsys, monkeypatch):
    monkeypatch.setattr(notices, "_printed", set())
    words = ["out", "--train", "1", "--val", "0", "--test", "0"]
    renamed = parse("synth", [*words, "--realism", "all", "no-paint"])
    assert renamed == parse("synth", [*words, "--randomization", "all", "no-paint"])
    assert parse("synth", [*words, "--realism=light"]) == parse("synth", [*words, "--randomization=light"])
    assert capsys.readouterr().err == "clrernetlm: --realism is now called --randomization\n"
