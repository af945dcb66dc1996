"""Reads live streams without falling behind, and opens them again when they are lost."""

from __future__ import annotations

import threading
from typing import Any

import cv2

from clrernetlm.core.errors import UserError
from clrernetlm.core.sources import Stream
from clrernetlm.core.video_opening import open_video, read_frame

RECONNECT_DELAYS = (1.0, 2.0, 4.0, 8.0)  # seconds to wait before each try


class LatestFrameReader:
    """Reads an opened live stream in a thread and hands out its newest frame.

    What comes while the last frame is worked on is dropped: a stream that is read too slowly would be ever further in
    the past. A lost stream is opened again, RECONNECT_AFTER. `read` and `release` as those of `cv2.VideoCapture`.
    """

    def __init__(self, source: Stream, capture: cv2.VideoCapture) -> None:
        self._source, self._capture = source, capture
        self._newest: Any = None
        self._ended = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        # A daemon: a program whose reader was forgotten ends nevertheless.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def read(self) -> tuple[bool, Any]:
        """Wait for the next frame; returns whether there is one, and the frame."""
        with self._changed:
            while self._newest is None and not self._ended:
                self._changed.wait(0.2)  # not for ever: Ctrl-C is heard in between, also on Windows
            frame, self._newest = self._newest, None
        return frame is not None, frame

    def release(self) -> None:
        """Stop reading and close the stream; takes as long as the next frame, or TIMEOUTS of a silent stream.

        It is waited for: a process that ends while OpenCV reads in a thread is aborted.
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
        """Open the stream again and return its first frame; None when it does not answer any more."""
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
