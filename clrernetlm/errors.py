"""The one error that users see without a traceback."""


class UserError(Exception):
    """Something the user can fix: a file, a setting, a request.

    The message is one line. It names the file, line or field first, then what is wrong, then the fix. The command line
    prints it after `error:` and exits with code 2; in Python it is an ordinary exception.
    """

    def __init__(self, message: str = "") -> None:
        # A DataLoader hands on an error of its workers with the whole traceback as message; ours is its last line.
        if "\nOriginal Traceback" in message:
            message = message.rstrip().rpartition("\n")[2].partition(": ")[2]
        super().__init__(message)
