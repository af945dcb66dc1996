"""Makes the inputs of the commands: generated roads, a list of images, a video, a checkpoint and a packed model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from clrernetlm.core.errors import UserError
from kill_test.cases import IMAGES, SMALL_DETECTOR
from kill_test.processes import start

PATIENCE = 240.0  # seconds that a command may take


class Inputs:
    """The inputs of the commands in `folder`; each is made when it is first used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self._made: dict[str, Path] = {}
        self._makers = {
            "roads": self._make_roads,
            "many": self._make_many,
            "images": self._find_images,
            "clip": self._make_clip,
            "detector": self._make_detector,
            "packed": self._make_packed,
        }
        for name in ("scratch", "tmp"):
            (folder / name).mkdir()

    def fill_in(self, arguments: Sequence[str]) -> list[str]:
        """Replace names of inputs in braces by their paths."""
        used = {name for name in self._makers if any(f"{{{name}}}" in argument for argument in arguments)}
        paths = {name: str(self.path(name)) for name in self._makers if name in used}
        return [argument.format(**paths) for argument in arguments]

    def path(self, name: str) -> Path:
        """Return the path of an input, which is made if it does not exist yet."""
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def _run(self, *arguments: str) -> None:
        """Run a command to its end. Raises UserError if it fails."""
        run = start(self.fill_in(arguments), self.scratch)
        if run.wait(PATIENCE) != 0:
            raise UserError(f"clrernetlm {' '.join(arguments)}: {run.output.read_text()[-400:]}")

    def _make_roads(self) -> Path:
        """Generate a data set of roads."""
        roads = self.folder / "roads"
        self._run("synth", str(roads), f"--train={IMAGES}", "--val=2", "--test=4", "--size=410x148")
        return roads

    def _find_images(self) -> Path:
        """Find a folder of images of the roads."""
        return next(self.path("roads").glob("driver_01/*"))

    def _make_many(self) -> Path:
        """Write a list of 300 equal images with random lanes, without the package."""
        many, rng = self.folder / "many", np.random.default_rng(0)
        names = [f"clip{number // 100}/{number:04d}" for number in range(300)]
        image = rng.integers(0, 255, (590, 1640, 3), np.uint8)
        jpeg = cv2.imencode(".jpg", cv2.GaussianBlur(image, (31, 31), 0))[1].tobytes()
        rows = np.arange(589, 300, -10)
        for name in names:
            (many / name).parent.mkdir(parents=True, exist_ok=True)
            (many / f"{name}.jpg").write_bytes(jpeg)
            lanes = [bottom + slope * (589 - rows) for bottom, slope in rng.uniform((200, -1), (1400, 1), (3, 2))]
            lines = (" ".join(f"{x:.2f} {y}" for x, y in zip(lane, rows, strict=True)) for lane in lanes)
            (many / f"{name}.lines.txt").write_text("".join(f"{line}\n" for line in lines))
        (many / "list").mkdir()
        (many / "list/train.txt").write_text("".join(f"/{name}.jpg\n" for name in names))
        return many

    def _make_clip(self) -> Path:
        """Write a video of the roads."""
        path = self.folder / "clip.mp4"
        frames = sorted(self.path("roads").glob("driver_01/*/*.jpg"))
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (410, 148))
        for frame in frames * 3:
            writer.write(cv2.imread(str(frame)))
        writer.release()
        return path

    def _make_detector(self) -> Path:
        """Train a small detector for one epoch, and return its checkpoint."""
        arguments = ("train", "clrernet_culane_dla46_c", *SMALL_DETECTOR, "--data.root={roads}")
        work_dir = f"--training.work-dir={self.folder / 'detector'}"
        self._run(*arguments, "--data.num-workers=0", "--training.epochs=1", work_dir)
        return next(self.folder.glob("detector/checkpoints/epoch_*.ckpt"))

    def _make_packed(self) -> Path:
        """Pack the small detector, with a threshold that lets lanes through."""
        path = self.folder / "packed.safetensors"
        self._run("pack", "{detector}", str(path), "--model.decode.conf-threshold=0.1")
        return path
