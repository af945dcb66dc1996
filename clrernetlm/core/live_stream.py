"""Reads live streams without lag, and reconnects when they are lost."""

from __future__ import annotations

import threading
from typing import Any

import cv2

from clrernetlm.core.errors import UserError
from clrernetlm.core.sources import Stream
from clrernetlm.core.video_opening import open_video, read_frame

RECONNECT_DELAYS = (1.0, 2.0, 4.0, 8.0)  # seconds to wait before each try


class LatestFrameReader:
    """Reads an opened live stream in a thread; `read` returns its latest frame.

    Frames that arrive while an earlier one is processed are dropped; otherwise the lag of a slow reader would grow
    without limit. A lost stream is opened again after RECONNECT_DELAYS. `read` and `release` have the interface of
    `cv2.VideoCapture`.
    """

    def __init__(self, source: Stream, capture: cv2.VideoCapture) -> None:
        self._source, self._capture = source, capture
        self._newest: Any = None
        self._ended = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        # A daemon thread, so that a program ends although a reader was not released.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def read(self) -> tuple[bool, Any]:
        """Wait for the next frame; returns (whether there is one, the frame)."""
        with self._changed:
            while self._newest is None and not self._ended:
                self._changed.wait(0.2)  # with a timeout, so that Ctrl-C is handled, also on Windows
            frame, self._newest = self._newest, None
        return frame is not None, frame

    def release(self) -> None:
        """Stop reading and close the stream; waits for the next frame, or for TIMEOUTS of a silent stream.

        Without waiting, a process that ends while OpenCV reads in a thread would be aborted.
        """
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                there, frame = read_frame(self._capture)
                if not there:
                    frame = self._connect_again()
                if frame is None:
                    break
                with self._changed:
                    self._newest = frame
                    self._changed.notify()
        finally:
            self._capture.release()
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _connect_again(self) -> Any:
        """Open the stream again and return its first frame; None if that fails after all delays."""
        for seconds in RECONNECT_DELAYS:
            if self._stop.wait(seconds):
                return None
            try:
                self._capture.release()
                _, self._capture, frame = open_video(self._source)
                return frame
            except UserError:
                continue
        return None
