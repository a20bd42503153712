"""Errors that the command line reports without a traceback: bad input, and a training that diverged."""


class InputError(ValueError):
    """Bad input that the user can correct.

    The message names the file, the column or tag, the value seen and the remedy. The command line prints it without a
    traceback and exits with status 2; any other exception is a bug and is shown with its traceback.
    """


class DivergedError(RuntimeError):
    """A loss that became NaN or infinite; the message names the files of the batch."""
