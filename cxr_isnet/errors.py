"""The one error type for input that a user can mend: a file, a table, a setting."""


class InputError(ValueError):
    """Bad input, told so that it can be mended.

    The message names the file, the column or tag, the value seen and the remedy. The command line prints it without a
    traceback and exits with status 2; any other exception is a bug and is shown whole.
    """
