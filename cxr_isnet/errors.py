"""Errors that the command line tells without a traceback: what a user can mend, and a training that diverged."""


class InputError(ValueError):
    """Bad input, told so that it can be mended.

    The message names the file, the column or tag, the value seen and the remedy. The command line prints it without a
    traceback and exits with status 2; any other exception is a bug and is shown whole.
    """


class DivergedError(RuntimeError):
    """A loss became NaN or infinite; the message names the batch's files."""
