"""Errors that the command line prints as one line, without a traceback."""

from __future__ import annotations

import re

MAX_MESSAGE_LENGTH = 2000  # characters of a message


class UserError(Exception):
    """An error that the user can fix: in a file, a setting or an argument.

    The message is one line: first the file, line or field, then what is wrong, then the fix. The command line prints it
    after `error:` and exits with code 2; in Python it is an ordinary exception.
    """

    def __init__(self, message: str = "") -> None:
        # A DataLoader raises an error of its workers again with the whole traceback as message; its last line is kept.
        if "\nOriginal Traceback" in message:
            message = message.rstrip().rpartition("\n")[2].partition(": ")[2]
        if len(message) > MAX_MESSAGE_LENGTH:  # with a name or value of a hostile file
            message = f"{message[: MAX_MESSAGE_LENGTH // 2]} ... {message[-MAX_MESSAGE_LENGTH // 2 :]}"
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Make text safe for one line of a terminal: white space becomes blanks, control characters and lone bytes escapes.

    A name in a file could otherwise colour the terminal, or make printing the line fail.
    """
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text.strip())


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape", "surrogatepass").decode("ascii")


# Messages of libraries that ran out of memory: C++, PyTorch's CPU allocator and CUDA, OpenCV, the loader of libraries.
_OUT_OF_MEMORY = re.compile(
    r"bad_alloc|bad allocation|can't allocate memory|cannot allocate memory|not enough memory|out of memory"
    r"|insufficient memory|failed to allocate|unable to allocate|failed to map segment|can't start new thread",
    re.IGNORECASE,
)
_LOST_LOADER = re.compile(r"DataLoader worker .*(exited unexpectedly|is killed by signal)", re.DOTALL)


def reason_of(error: BaseException) -> str | None:
    """Explain in one line an error that the machine or a file caused; None for an error of the program.

    Covers errors that can occur anywhere: memory that runs out, a killed loader worker, and files that the system
    refuses to read or write.
    """
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, RuntimeError) and _LOST_LOADER.search(text):
        return "data.num_workers: a worker process was killed, often because memory ran out; use fewer, or 0"
    causes = [error, error.__cause__, error.__context__]  # the cause of a library that cannot be loaded
    if any(isinstance(cause, MemoryError) or _OUT_OF_MEMORY.search(str(cause)) for cause in causes):
        detail = f" ({text.strip().splitlines()[-1][:200]})" if text.strip() else ""
        return f"not enough memory{detail}; use smaller batches, images or fewer workers"
    if isinstance(error, OSError) and error.strerror:
        named = f"{str(error.filename)[: MAX_MESSAGE_LENGTH // 4]}: " if error.filename else ""
        return f"{named}{error.strerror}; check the path, permissions and free space"
    return None
