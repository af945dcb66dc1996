"""Detection in videos: overlay and JSON, also after errors and interrupts."""

import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm import UserError
from clrernetlm.config import Config
from clrernetlm.core.drawing import PALETTE
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attributes import HIDDEN_CODES
from clrernetlm.core.overwrite_rules import RESULTS_LOG
from clrernetlm.core.sources import find_inputs, is_input
from clrernetlm.core.video import USUAL_FPS, Video, video_writer
from clrernetlm.core.viewport import Viewport
from clrernetlm.inference.detect_images import report_video
from clrernetlm.inference.detect_video import VideoResult, detect_video, video_viewport
from tests.helpers.drawn_roads import drawn_lanes
from tests.helpers.small_videos import SIZE as MARKED
from tests.helpers.small_videos import corners, set_matrix, write_clip

SIZE = (320, 180)  # width, height
FRAMES = 20
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mov": "mp4v", ".mkv": "mp4v"}


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a grey frame whose level encodes its number."""
    return np.full((size[1], size[0], 3), 10 * (number % 20) + 20, np.uint8)


def write_video(path: Path, frames: int = FRAMES, fps: float = 25, size: tuple[int, int] = SIZE) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), fps, size)
    for number in range(frames):
        writer.write(picture(number, size))
    writer.release()
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    with Video(path) as video:
        return [image.copy() for image in video]


class Stub:
    """Replaces a Predictor: two lanes in every image, none in every fourth; Ctrl-C at frame `stop`."""

    config = Config()

    def __init__(self, stop: int = -1) -> None:
        self.number, self.stop = -1, stop

    def set_image(self, image: np.ndarray, *_: object) -> None:
        self.number += 1
        self.size = (image.shape[1], image.shape[0])
        if self.number == self.stop:
            raise KeyboardInterrupt

    def lanes(self, conf: float | None) -> list[Lane]:
        lanes = drawn_lanes(np.random.default_rng(1), self.size)[:2]
        return [] if self.number % 4 == 3 else [Lane(lanes[(n + self.number) % 2], 0.5 + conf) for n in range(2)]


def run(video: Path, folder: Path, stop: int = -1, **options: object) -> tuple[VideoResult, dict]:
    result = detect_video(Stub(stop), video, folder, video.stem, conf=0.25, **options)  # type: ignore[arg-type]
    return result, json.loads((folder / f"{video.stem}.lanes.json").read_text())


@pytest.mark.parametrize("suffix", CODECS)
def test_every_container_gives_a_playable_overlay_and_every_frames_lanes(suffix: str, tmp_path: Path) -> None:
    video = write_video(tmp_path / f"clip{suffix}", fps=12.5)
    result, facts = run(video, tmp_path / "out")
    assert result == VideoResult(FRAMES, 2 * FRAMES, interrupted=False, cut_short=False)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"clip.mp4", "clip.lanes.json", RESULTS_LOG}
    assert (facts["width"], facts["height"], facts["fps"]) == (*SIZE, 12.5)
    assert [frame["frame"] for frame in facts["frames"]] == list(range(FRAMES))
    assert facts["frames"][10]["seconds"] == 0.8
    with Video(tmp_path / "out" / "clip.mp4") as overlay:
        assert (overlay.size, overlay.fps) == (SIZE, 12.5)
        for number, image in enumerate(overlay):
            assert np.median(image) == pytest.approx(np.median(picture(number)), abs=6)
    assert number == FRAMES - 1


def test_lanes_keep_their_identity_and_colour(tmp_path: Path) -> None:
    _, facts = run(write_video(tmp_path / "clip.mp4"), tmp_path / "out")
    for frame in facts["frames"]:
        assert [lane["track"] for lane in frame["lanes"]] == [1, 2]
        assert {lane["seen"] for lane in frame["lanes"]} == {frame["frame"] % 4 != 3}
    bottoms = np.array([[lane["points"][0] for lane in frame["lanes"]] for frame in facts["frames"]])
    assert np.ptp(bottoms, axis=0).max() < 1
    middles = [lane["points"][len(lane["points"]) // 2] for lane in facts["frames"][0]["lanes"]]
    for image in frames_of(tmp_path / "out" / "clip.mp4")[4:]:
        for (x, y), (blue, _, red) in zip(middles, PALETTE, strict=False):  # blue, then orange; MPEG blurs
            patch = image[int(y) - 1 : int(y) + 2, int(x) - 2 : int(x) + 3].astype(int)
            assert ((patch[..., 0] - patch[..., 2]).mean() > 5) == (blue > red)


def test_without_tracking_frames_are_independent(tmp_path: Path) -> None:
    result, facts = run(write_video(tmp_path / "clip.mp4"), tmp_path / "out", tracking=False)
    assert result.lanes == 2 * FRAMES * 3 // 4
    assert [len(frame["lanes"]) for frame in facts["frames"][:4]] == [2, 2, 2, 0]
    assert set(facts["frames"][0]["lanes"][0]) == {"score", "points"}


@pytest.mark.parametrize("tracking", [True, False])
def test_lane_attributes_are_in_the_json_and_lanes_end_at_the_bonnet(tmp_path: Path, tracking: bool) -> None:
    class Informed(Stub):
        def lanes(self, conf: float | None) -> list[Lane]:
            lanes = drawn_lanes(np.random.default_rng(1), self.size)[:1]
            hidden_by = np.where(lanes[0][:, 1] > 150, HIDDEN_CODES["bonnet"], HIDDEN_CODES["none"])
            hidden_by[-1] = HIDDEN_CODES["vehicle"]
            return [Lane(lanes[0], 0.75, "dashed", "white", -1, hidden_by=hidden_by)]

    video = write_video(tmp_path / "clip.mp4", frames=3)
    for end_at_bonnet in (False, True):
        folder = tmp_path / str(end_at_bonnet)
        detect_video(Informed(), video, folder, "clip", None, tracking, end_at_bonnet=end_at_bonnet)  # type: ignore[arg-type]
        for frame in json.loads((folder / "clip.lanes.json").read_text())["frames"]:
            (lane,) = frame["lanes"]
            assert (lane["type"], lane["colour"], lane["position"]) == ("dashed", "white", -1)
            assert lane.get("track") == (1 if tracking else None)
            reasons = [part["by"] for part in lane["hidden"]]
            assert reasons == (["vehicle"] if end_at_bonnet else ["bonnet", "vehicle"])
            assert lane["hidden"][-1]["to"] == len(lane["points"]) - 1
            assert (lane["points"][0][1] < 152) == end_at_bonnet


def test_a_model_without_visibility_prints_one_notice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="end_at_bonnet: this model does not say where lanes are hidden") as warned:
        run(write_video(tmp_path / "clip.mp4"), tmp_path / "out", end_at_bonnet=True)
    assert len(warned) == 1


def test_interrupting_leaves_a_playable_video_and_readable_lanes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, out = write_video(tmp_path / "clip.mp4"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        report_video(Stub(stop=8), video, out, "clip", 0.25, True)  # type: ignore[arg-type]
    assert "8 frames, stopped" in capsys.readouterr().out
    assert len(frames_of(out / "clip.mp4")) == 8
    assert len(json.loads((out / "clip.lanes.json").read_text())["frames"]) == 8
    assert len(list(out.iterdir())) == 3


def test_an_error_leaves_no_partial_results(tmp_path: Path) -> None:
    class Broken(Stub):
        def lanes(self, conf: float | None) -> list[Lane]:
            raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        detect_video(Broken(), write_video(tmp_path / "clip.mp4"), tmp_path / "out", "clip")  # type: ignore[arg-type]
    assert list((tmp_path / "out").iterdir()) == []


def refusal(video: Path, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        run(video, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unreadable_videos_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = write_video(tmp_path / "clip.mp4").read_bytes()
    for content in (b"", b"nonsense" * 100, whole[: len(whole) // 2]):
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(content)
        assert refusal(broken, tmp_path / "out") == f"{broken}: not a video, or cut short; no frame can be read"
    assert not (tmp_path / "out").exists()
    assert capfd.readouterr().err == ""


def test_a_truncated_video_is_processed_and_named(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "clip.avi", frames=60).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    problems = report_video(Stub(), tmp_path / "cut.avi", tmp_path / "out", "cut", 0.25, True)  # type: ignore[arg-type]
    assert len(problems) == 1
    assert "cut.avi: cut short after " in problems[0]
    assert len(frames_of(tmp_path / "out" / "cut.mp4")) > 5


def test_a_video_is_not_written_over_itself(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4")
    before = video.read_bytes()
    assert "this run reads that file and would overwrite it; choose another `out`" in refusal(video, tmp_path)
    assert video.read_bytes() == before


def test_a_second_run_replaces_results_of_the_same_video(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, second = write_video(tmp_path / "clip.avi"), write_video(tmp_path / "other" / "clip.avi")
    for _ in range(2):
        detect_video(Stub(), first, tmp_path / "out", "clip", 0.25)  # type: ignore[arg-type]
    before = (tmp_path / "out" / "clip.mp4").read_bytes()
    with pytest.raises(UserError, match=r"clip\.mp4: a result of .*clip\.avi"):
        detect_video(Stub(), second, tmp_path / "out", "clip", 0.25)  # type: ignore[arg-type]
    assert (tmp_path / "out" / "clip.mp4").read_bytes() == before
    detect_video(Stub(), second, tmp_path / "out", "clip", 0.25, overwrite=True)  # type: ignore[arg-type]
    (tmp_path / "out" / "clip.mp4").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"clip\.mp4: would be overwritten, and is not"):
        detect_video(Stub(), second, tmp_path / "out", "clip", 0.25, overwrite=True)  # type: ignore[arg-type]


def test_a_full_disk_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be written" in refusal(write_video(tmp_path / "clip.mp4"), tmp_path / "file")


@pytest.mark.parametrize("size", [(321, 181), (64, 48)])
def test_odd_and_changing_frame_sizes_are_written(size: tuple[int, int], tmp_path: Path) -> None:
    with video_writer(tmp_path / "a.mp4", size, USUAL_FPS) as append:
        append(picture(0, size))
        append(picture(1, (100, 80)))
    assert len(frames_of(tmp_path / "a.mp4")) == 2


class SlowCamera:
    """Replaces cv2.VideoCapture: a camera of 20 frames a second that is read five times a second."""

    def __init__(self, source: object) -> None:
        self.given = 0

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.given += 1
        time.sleep(0.2 if self.given > 1 else 0)
        return (True, picture(self.given)) if self.given <= 5 else (False, None)

    def get(self, what: int) -> float:
        return 20.0 if what == cv2.CAP_PROP_FPS else -1.0

    def release(self) -> None:
        pass


def test_the_overlay_of_a_camera_plays_in_real_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(cv2, "VideoCapture", SlowCamera)
        video = Video(0)
    monkeypatch.setattr("clrernetlm.inference.detect_video.Video", lambda source: video)
    result = detect_video(Stub(), 0, tmp_path, "camera0", 0.25)  # type: ignore[arg-type]
    facts = json.loads((tmp_path / "camera0.lanes.json").read_text())
    assert (result.frames, result.cut_short, facts["video"]) == (5, False, "0")
    last = facts["frames"][-1]["seconds"]
    assert last > 0.7
    assert len(frames_of(tmp_path / "camera0.mp4")) == pytest.approx(20 * last, abs=2)


def test_interrupting_before_the_first_frame_leaves_no_video(tmp_path: Path) -> None:
    result, facts = run(write_video(tmp_path / "clip.mp4"), tmp_path / "out", stop=0)
    assert (result.frames, result.interrupted, facts["frames"]) == (0, True, [])
    assert not (tmp_path / "out" / "clip.mp4").exists()


def test_missing_cameras_are_a_one_line_error() -> None:
    with pytest.raises(UserError, match="77: no camera of this number"):
        Video(77)


def test_arguments_are_sorted_into_images_videos_and_cameras(tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    for name in ("b.JPG", "a.png", "z.MP4", "note.txt"):
        (tmp_path / "mixed" / name).write_bytes(b"")
    (tmp_path / "clip.mkv").write_bytes(b"")
    found = find_inputs([str(tmp_path / "mixed"), "0", str(tmp_path / "clip.mkv"), str(tmp_path / "clip.mkv"), "12"])
    assert found.images == [tmp_path / "mixed/a.png", tmp_path / "mixed/b.JPG"]
    assert found.videos == [tmp_path / "mixed/z.MP4", 0, tmp_path / "clip.mkv", 12]
    assert is_input("0")
    assert is_input("absent.mp4")
    assert not is_input("clrernet_culane_dla34")
    (tmp_path / "mixed2").mkdir()
    with pytest.raises(UserError, match="no image or video in this folder"):
        find_inputs([str(tmp_path / "mixed2")])


def test_overlay_and_lanes_of_a_turned_clip_are_what_players_show(tmp_path: Path) -> None:
    clip = set_matrix(write_clip(tmp_path / "phone.mp4"), 0, 1, -1, 0)
    sizes = []

    class Watching(Stub):
        def set_image(self, image: np.ndarray, *_: object) -> None:
            assert corners(image) == "RW.."
            sizes.append((image.shape[1], image.shape[0]))
            super().set_image(image)

        def lanes(self, conf: float | None) -> list[Lane]:
            return []

    detect_video(Watching(), clip, tmp_path / "out", "phone")  # type: ignore[arg-type]
    facts = json.loads((tmp_path / "out/phone.lanes.json").read_text())
    assert (facts["width"], facts["height"]) == MARKED[::-1]
    assert sizes == [MARKED[::-1]] * 5
    assert [corners(image) for image in frames_of(tmp_path / "out/phone.mp4")] == ["RW.."] * 5


def test_the_crop_of_a_turned_clip_is_chosen_from_turned_frames(tmp_path: Path) -> None:
    class Watching(Stub):
        config = replace(Config(), model=replace(Config().model, viewport_mode="auto"))

        def calibrate(self, images: list[np.ndarray]) -> Viewport:
            assert [corners(image) for image in images] == [".R.W"]
            return Viewport(800, 320, top=0.5)

    clip = set_matrix(write_clip(tmp_path / "phone.mp4"), -1, 0, 0, -1)
    assert video_viewport(Watching(), clip) == Viewport(800, 320, top=0.5)  # type: ignore[arg-type]


def test_results_of_a_clip_in_a_folder_lie_below_and_are_replaced(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    for _ in range(2):
        detect_video(Stub(), clip, tmp_path / "out", "day/clip", conf=0.25)  # type: ignore[arg-type]
        assert {path.name for path in (tmp_path / "out/day").iterdir()} == {"clip.mp4", "clip.lanes.json"}


def test_sigterm_completes_the_video_and_its_json(tmp_path: Path) -> None:
    class Terminated(KeyboardInterrupt):
        pass

    class Asked(Stub):
        def set_image(self, image: np.ndarray, *_: object) -> None:
            super().set_image(image)
            if self.number == 3:
                raise Terminated

    with pytest.raises(Terminated):
        detect_video(Asked(), write_clip(tmp_path / "clip.mp4"), tmp_path / "out", "clip", 0.25)  # type: ignore[arg-type]
    assert len(frames_of(tmp_path / "out/clip.mp4")) == 3
    assert len(json.loads((tmp_path / "out/clip.lanes.json").read_text())["frames"]) == 3
