"""Files that are either the old one or the whole new one, never half of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clrernetlm.errors import UserError

PathLike = str | os.PathLike[str]
EXPORTED = (".onnx", ".xml", ".pt2")  # names of models in the files of other runtimes end so


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """A temporary path beside `path` to write to; renamed over `path` when the block ends without an error.

    On an error the temporary file is removed and `path` stays as it was; an OSError (full disk, no permission) becomes
    a UserError that names `path`.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{target}: cannot be written ({reason}); free space or check permissions") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text_atomically(path: PathLike, text: str) -> None:
    """Write `text` (UTF-8) to `path` in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: PathLike) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
