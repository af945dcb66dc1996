"""The last line that `clrernetlm train` prints."""

import re
import shlex

import pytest

from clrernetlm.cli import main
from clrernetlm.config.python_source import to_source
from tests.helpers.drawn_roads import write_drawn_roads
from tests.helpers.small_detector import small_config


def test_training_prints_its_checkpoint_and_the_command_to_test_it(tmp_path, capfd):
    roads = write_drawn_roads(tmp_path / "roads", 2)
    config = small_config(roads, tmp_path / "run", epochs=1)
    config.training.work_dir = None
    (tmp_path / "small.py").write_text(to_source(config))
    words = [str(tmp_path / "small.py"), f"--training.work-dir={tmp_path / 'my run'}"]
    assert main(["train", *words]) == 0
    out, bar = capfd.readouterr()
    best = str(tmp_path / "my run/checkpoints/best.ckpt")
    said = re.search(r"^trained: (.*) \(F1@50 (\d+\.\d\d) % on list/val\.txt\); test it: (.*)$", out, re.MULTILINE)
    assert said is not None, out
    assert said[1] == best
    assert shlex.split(said[3]) == ["clrernetlm", "test", words[0], best, words[1]]
    assert f"F1@50={said[2]} %" in out + bar
    assert "v_num" not in out + bar

    assert main(["train", *words, "--resume"]) == 0
    out, warned = capfd.readouterr()
    assert f"trained: {best} (F1@50 {said[2]} %" in out
    assert "epoch_0000.ckpt: this training is finished (1 epochs, 1 steps); raise training.epochs to go on" in warned


def test_training_without_validation_prints_not_validated(tmp_path, capfd):
    roads = write_drawn_roads(tmp_path / "roads", 2)
    (tmp_path / "small.py").write_text(to_source(small_config(roads, tmp_path / "run", epochs=1, validate_every=0)))
    assert main(["train", str(tmp_path / "small.py")]) == 0
    assert "epoch_0000.ckpt (not validated); test it:" in capfd.readouterr().out


@pytest.mark.parametrize("workers", [0, 1])
def test_lanes_outside_the_crop_are_explained(workers, tmp_path, capfd):
    roads = write_drawn_roads(tmp_path / "roads", 2)
    for labels in roads.glob("driver_1/*/*.lines.txt"):
        labels.write_text("100 20 110 10\n")  # above the crop
    config = small_config(roads, tmp_path / "run", epochs=1)
    config.data.num_workers = workers
    (tmp_path / "small.py").write_text(to_source(config))
    assert main(["train", str(tmp_path / "small.py")]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "its labels are at x 100 to 110, y 10 to 20, and the network sees x 0 to 410, y 67 to 148" in lines[0]
    assert "set model.viewport to where the lanes are" in lines[0]
