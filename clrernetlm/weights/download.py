"""Downloads files, and verifies that they are complete; the next call continues an interrupted download."""

from __future__ import annotations

import http.client
import os
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import sha256
from clrernetlm.core.progress import progress_display

BLOCK = 1 << 18  # bytes
LARGEST = 4 << 30  # bytes of a file
TIMEOUT = 30.0  # seconds without a response or a byte


def download(url: str, target: Path, expected: str | None = None, timeout: float = TIMEOUT) -> str:
    """Download `url` to the file `target`, with a progress bar; returns its SHA-256. An existing `target` is replaced.

    The part received so far is in `<target>.part`, where the next call continues. `target` appears only when it is
    complete and its SHA-256 is `expected` (None: unknown, not compared). Raises UserError for no connection, a response
    other than the file, a file cut short, a wrong hash (nothing is kept then), and a folder that cannot be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, timeout)
        found = sha256(part)
        if expected is not None and found != expected:
            part.unlink()
            raise UserError(f"{url}: SHA-256 {found} instead of {expected}; not kept. Try again, or report the address")
        os.replace(part, target)
    except HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
            raise UserError(f"{part}: did not belong to {url}, and is deleted; run the command again") from None
        raise UserError(f"{url}: the server answers {error.code} {error.reason}; check the address") from None
    except (URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise UserError(
            f"{url}: cannot be downloaded ({reason}); check the connection, or put the file at {target} by hand"
        ) from None
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error}); choose another folder") from None
    return found


def _fetch(url: str, part: Path, timeout: float) -> None:
    """Append the missing bytes of `url` to `part`; raises UserError when the connection ends before the file does."""
    have = part.stat().st_size if part.exists() else 0
    # Request the last byte again: for a part that is already complete, a request beyond the end would be an error.
    request = Request(url, headers={"Range": f"bytes={have - 1}-"} if have else {})
    with urlopen(request, timeout=timeout) as response:
        if url.startswith("https:") and not response.geturl().startswith("https:"):
            raise UserError(
                f"{url}: redirected to {response.geturl()}, where the file could be changed on its way; not kept"
            )
        resumes = response.status == 206 and (response.headers.get("Content-Range") or "").startswith(
            f"bytes {have - 1}-"
        )
        have = have - 1 if resumes else 0  # 0: the server sends all of it
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None and length.isdecimal() and len(length) < 20 else None
        with open(part, "r+b" if have else "wb") as file, _bar() as bar:
            file.seek(have)
            task = bar.add_task(part.name.removesuffix(".part"), total=total, completed=have)
            while block := response.read(BLOCK):
                if file.tell() > LARGEST:
                    raise UserError(f"{url}: more than {LARGEST >> 30} GB, which no model has; check the address")
                file.write(block)
                bar.advance(task, len(block))
            arrived = file.tell()
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    if total is not None and arrived != total:
        raise UserError(
            f"{url}: cut short after {arrived} of {total} bytes; run the command again to continue from there"
        )


def _bar() -> Progress:
    return progress_display(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
