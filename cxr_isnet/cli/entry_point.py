"""The entry point: one command runs, and its end is an exit status and a message."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import re
import sys
import warnings
from contextlib import nullcontext
from dataclasses import MISSING, fields

from jsonargparse import ArgumentError

from cxr_isnet.cli.command_table import COMMANDS, Command, Group, find_command, setting_names
from cxr_isnet.cli.parser import parse
from cxr_isnet.cli.spelling import with_underscores, without_old_spellings
from cxr_isnet.cli.stand_ins import stand_ins
from cxr_isnet.config import is_import_path
from cxr_isnet.errors import DivergedError, InputError, Terminated, is_of_the_disk, sigterm_interrupts
from cxr_isnet.files import SafeFormatter, without_controls

BAD_INPUT = 2
DIVERGED = 3
INTERRUPTED = 130
TERMINATED = 143
CLOSED_PIPE = 141


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exit status 0; 2 for bad input, reported in one message; 3 for a training that diverged; 130 and 143
    for Ctrl-C and SIGTERM; 141 without a word where a reader closes early, as `| head`."""
    try:
        try:
            _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CLOSED_PIPE) from None


def _run(argv: list[str] | None) -> None:
    _quiet()
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(SafeFormatter("%(message)s"))
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR  # of torchrun, one process tells
    logging.basicConfig(level=level, handlers=[log], force=True)
    for noisy in ("ignite", "mlflow", "alembic", "matplotlib", "pynetdicom"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # of each retry; what fails in the end is told
    arguments = [with_underscores(word) for word in (sys.argv[1:] if argv is None else argv)]
    command = None
    try:
        arguments = without_old_spellings(arguments)
        with stand_ins() if _only_tells(arguments) else nullcontext():
            command, config = parse(arguments)
            with sigterm_interrupts():
                result = command.run(config)
    except ArgumentError as error:
        raise SystemExit(_fail(f"{_reason(str(error))}{_hint(str(error), arguments)}", BAD_INPUT)) from None
    except InputError as error:
        raise SystemExit(_fail(error, BAD_INPUT)) from None
    except DivergedError as error:
        raise SystemExit(_fail(error, DIVERGED)) from None
    except KeyboardInterrupt as error:
        status = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
        raise SystemExit(_fail(f"interrupted{_how_to_go_on(command)}", status)) from None
    except OSError as error:
        if not is_of_the_disk(error):
            raise
        cure = "Make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Correct the permissions or the path"
        text = f"{error.filename or 'a file'}: {error.strerror}. {cure}{_how_to_go_on(command)}"
        raise SystemExit(_fail(text, BAD_INPUT)) from None
    text, status = result if isinstance(result, tuple) else (result, 0)
    if text:
        print(without_controls(text))
    if status:
        raise SystemExit(status)


def _only_tells(arguments: list[str]) -> bool:
    """Whether the answer stands in the code of this package, so that no library takes part in it."""
    command = find_command([word for word in arguments if not word.startswith("-")][:2])
    listed = command is not None and command.lists and not any(is_import_path(word) for word in arguments)
    return listed or bool({"-h", "--help"} & set(arguments))


def _reason(error: str) -> str:
    """What is wrong with a setting, without the parser's account of all types that were tried."""
    key = re.search(r'Parser key "([^"]+)":\s+Does not validate against any of the Union subtypes', error)
    _, _, account = error.partition("Errors:\n")
    tried = re.split(r"^ *- ", account.partition("Given value type")[0], flags=re.MULTILINE)[1:]
    reasons = [_innermost(item) for item in tried if not item.startswith("Expected a <class 'NoneType'>")]
    return error if key is None or not reasons else f"{key[1]}: {'; or '.join(reasons)}"


def _innermost(account: str) -> str:
    """The last line of one type's account, behind the settings inside it that it is about."""
    last = re.sub(r"^Not of type \w+: ", "", account.strip().splitlines()[-1].strip())
    return ": ".join([*re.findall(r'Parser key "([^"]+)"', account), last])


def _hint(error: str, arguments: list[str]) -> str:
    """What to do about a setting that is not understood: which is spelt most like it, and where all are listed."""
    words = [word for word in arguments if not word.startswith("-")][:2]
    command = find_command(words)
    unknown = re.search(r"(?:does not accept option '|unrecognized arguments: --|ambiguous option: --)([\w.]+)", error)
    said = ""
    if command is not None and unknown is not None and unknown[1] in command.places:
        said = f". It has no name here: {_called(words, command)}"
    elif command is not None and unknown is not None:
        close = difflib.get_close_matches(unknown[1], setting_names(command.settings(), ""), n=1, cutoff=0.7)
        said = f". Did you mean {close[0]!r}?" if close else ""
    elif command is not None and error.startswith("unrecognized arguments: "):
        said = f". {'Others have' if command.places else 'Settings have'} names here: {_called(words, command)}"
    return f"{said}\n`cxr-isnet <command> --help` lists the settings"


def _called(words: list[str], command: Command) -> str:
    """How a command of a name, which may be of two words, is called with the settings that it needs."""
    needed = [
        field.name.upper() if field.name in command.places else f"--{field.name} {field.name.upper()}"
        for field in fields(command.settings())
        if field.default is MISSING and field.default_factory is MISSING
    ]
    return " ".join(["cxr-isnet", *words[: 2 if isinstance(COMMANDS[words[0]], Group) else 1], *needed])


def _how_to_go_on(command: Command | None) -> str:
    return f"; to go on, {command.goes_on}" if command is not None and command.goes_on else ""


def _fail(error: object, status: int) -> int:
    print(without_controls(f"cxr-isnet: {error}"), file=sys.stderr)
    return status


def _quiet() -> None:
    """Silences what libraries say of themselves; their faults still raise."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message="The y_prob values do not sum to one", category=UserWarning)
