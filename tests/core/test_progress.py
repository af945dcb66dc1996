import pytest

from clrernetlm.core.progress import progress_bar


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make rich take standard error for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("terminal")
def test_a_bar_counts_the_size_of_items(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar(iter([[1, 2], [3]]), "Chunks [of two]", size=len)) == [[1, 2], [3]]
    drawn = capsys.readouterr().err
    assert "Chunks [of two]" in drawn
    assert "3/?" in drawn


@pytest.mark.usefixtures("terminal")
def test_a_bar_takes_its_total_from_the_items(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar(range(4), "Steps")) == [0, 1, 2, 3]
    assert "100%" in capsys.readouterr().err


def test_without_a_terminal_nothing_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert list(progress_bar(range(4), "Steps")) == [0, 1, 2, 3]
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("terminal")
def test_a_disabled_bar_draws_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar(range(4), "Steps", enabled=False)) == [0, 1, 2, 3]
    assert capsys.readouterr().err == ""
