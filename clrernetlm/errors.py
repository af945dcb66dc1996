"""The one error that users see without a traceback."""


class UserError(Exception):
    """Something the user can fix: a file, a setting, a request.

    The message is one line. It names the file, line or field first, then what is wrong, then the fix. The command
    line prints it after `error:` and exits with code 2; in Python it is an ordinary exception.
    """
