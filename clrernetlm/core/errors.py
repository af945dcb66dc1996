"""Errors that users see as one line, without a traceback."""

from __future__ import annotations

import re

MAX_MESSAGE_LENGTH = 2000  # characters of a message


class UserError(Exception):
    """Something the user can fix: a file, a setting, a request.

    The message is one line. It names the file, line or field first, then what is wrong, then the fix. The command line
    prints it after `error:` and exits with code 2; in Python it is an ordinary exception.
    """

    def __init__(self, message: str = "") -> None:
        # A DataLoader hands on an error of its workers with the whole traceback as message; ours is its last line.
        if "\nOriginal Traceback" in message:
            message = message.rstrip().rpartition("\n")[2].partition(": ")[2]
        if len(message) > MAX_MESSAGE_LENGTH:  # a name or value out of a file that somebody made so long
            message = f"{message[: MAX_MESSAGE_LENGTH // 2]} ... {message[-MAX_MESSAGE_LENGTH // 2 :]}"
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Text for one line of a terminal: other white space is a blank, control characters and lone bytes are escaped.

    A name out of a file could otherwise colour the terminal, or stop the line from being printed at all.
    """
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text.strip())


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape", "surrogatepass").decode("ascii")


# How libraries say that memory ran out: C++, PyTorch's CPU allocator and CUDA, OpenCV, the loader of shared libraries.
_OUT_OF_MEMORY = re.compile(
    r"bad_alloc|bad allocation|can't allocate memory|cannot allocate memory|not enough memory|out of memory"
    r"|insufficient memory|failed to allocate|unable to allocate|failed to map segment|can't start new thread",
    re.IGNORECASE,
)
_LOST_LOADER = re.compile(r"DataLoader worker .*(exited unexpectedly|is killed by signal)", re.DOTALL)


def reason_of(error: BaseException) -> str | None:
    """Say in one line what is wrong where the machine or a file is at fault; None for an error of the program.

    Covers what no function can foresee wherever it may happen: memory that runs out, a killed loader worker, and files
    that the system refuses to read or write.
    """
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, RuntimeError) and _LOST_LOADER.search(text):
        return "data.num_workers: a worker process was killed, often because memory ran out; use fewer, or 0"
    causes = [error, error.__cause__, error.__context__]  # that a library cannot be loaded has one
    if any(isinstance(cause, MemoryError) or _OUT_OF_MEMORY.search(str(cause)) for cause in causes):
        detail = f" ({text.strip().splitlines()[-1][:200]})" if text.strip() else ""
        return f"not enough memory{detail}; use smaller batches, images or fewer workers"
    if isinstance(error, OSError) and error.strerror:
        named = f"{str(error.filename)[: MAX_MESSAGE_LENGTH // 4]}: " if error.filename else ""
        return f"{named}{error.strerror}; check the path, permissions and free space"
    return None
