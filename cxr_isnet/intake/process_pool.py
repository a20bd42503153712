"""A pool of processes that survives the death of its members and does not survive its own.

Each member has a pipe of its own. When one dies, the task that it held is known; when the pool's process is killed,
every member reads the end of its pipe and leaves. The pools of the standard library offer neither.

Where it can, a member starts as a fork of the pool's process, with all modules imported: at once instead of after half
a second. It must not use what belongs to the pool's process: its threads, databases and open files.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

PATIENCE = 600.0
"""Seconds that one task may take before its process is killed."""
_TRIES = 2
_FORKS = sys.platform == "linux"


@dataclass(frozen=True)
class Failure:
    """What is known of a task that has no result.

    Attributes:
        detail: how it failed, without the message of an exception, which may quote a header.
    """

    detail: str


@dataclass
class _Member:
    process: BaseProcess
    pipe: Connection


@dataclass(frozen=True)
class _Job(Generic[Task]):
    task: Task
    tries: int
    since: float


class ProcessPool(Generic[Task, Result]):
    """Processes that apply one function to many tasks. Use as a context."""

    def __init__(self, function: Callable[[Task], Result], size: int, patience: float = PATIENCE) -> None:
        """Start the processes.

        Args:
            function: picklable; what it raises becomes a `Failure`.
            size: number of processes.
            patience: seconds that one task may take.

        Raises:
            RuntimeError: a process does not start.
        """
        self._function = function
        self._patience = patience
        self._killed: list[_Member] = []
        self._members: list[_Member] = []
        for _ in range(size):
            self._members.append(self._start())
        for member in self._members:
            _greet(member)

    def __enter__(self) -> ProcessPool[Task, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        """Dismiss everyone, also amid a task."""
        for member in self._members:
            member.pipe.close()
            member.process.kill()
        for member in self._members:
            member.process.join()

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | Failure]]:
        """Hand out tasks as members become free.

        Args:
            tasks: is drawn from as needed, never ahead of the members.

        Yields:
            Each task with its result, in the order of completion. A task whose process died is given to another one
            once.
        """
        waiting = iter(tasks)
        idle = list(range(len(self._members)))
        jobs: dict[int, _Job[Task]] = {}
        while True:
            while idle and (task := next(waiting, None)) is not None:
                self._hand(idle.pop(), task, 1, jobs)
            if not jobs:
                return
            pipes: dict[Any, int] = {self._members[place].pipe: place for place in jobs}
            for pipe in wait(list(pipes), timeout=self._kill_the_slow(jobs)):
                place = pipes[pipe]
                job = jobs.pop(place)
                answer = self._receive(place, job)
                if answer is None:
                    self._hand(place, job.task, job.tries + 1, jobs)
                else:
                    idle.append(place)
                    yield job.task, answer

    def _hand(self, place: int, task: Task, tries: int, jobs: dict[int, _Job[Task]]) -> None:
        try:
            self._members[place].pipe.send(task)
        except OSError:  # it died while it was idle: no fault of the task
            self._replace(place)
            self._members[place].pipe.send(task)
        jobs[place] = _Job(task, tries, time.monotonic())

    def _receive(self, place: int, job: _Job[Task]) -> Result | Failure | None:
        """The answer of a member; None where it died and the task has another try."""
        member = self._members[place]
        try:
            answer: Result | Failure = member.pipe.recv()
        except (EOFError, OSError):
            self._replace(place)
            if member in self._killed:
                self._killed.remove(member)
                return Failure(f"took longer than {self._patience:g} s")
            return Failure(f"its process died {_TRIES} times") if job.tries >= _TRIES else None
        return answer

    def _kill_the_slow(self, jobs: dict[int, _Job[Task]]) -> float:
        """Kills who exceeded its time; returns the seconds until the next one would."""
        left = {place: job.since + self._patience - time.monotonic() for place, job in jobs.items()}
        for place, seconds in left.items():
            member = self._members[place]
            if seconds < 0 and not member.pipe.poll():  # an answer may lie there that was not fetched yet
                self._killed.append(member)
                member.process.kill()
        return max(min(left.values()), 0.05)

    def _replace(self, place: int) -> None:
        self._members[place].pipe.close()
        self._members[place].process.join()
        self._members[place] = self._start()
        _greet(self._members[place])

    def _start(self) -> _Member:
        context: Any = multiprocessing.get_context("fork" if _FORKS else "spawn")
        ours, theirs = context.Pipe()
        inherited = [*(member.pipe for member in self._members), ours] if _FORKS else []
        process = context.Process(target=_serve, args=(theirs, inherited, self._function), daemon=True)
        process.start()
        theirs.close()  # or the end of the member would not show as the end of the pipe
        return _Member(process, ours)


def _greet(member: _Member) -> None:
    """Waits until a process is up, so that one that cannot start is not taken for a fault of its first task."""
    try:
        member.pipe.recv()
    except (EOFError, OSError) as error:
        member.process.join()
        raise RuntimeError(f"a process did not start: exit status {member.process.exitcode}") from error


def _serve(pipe: Connection, inherited: list[Connection], function: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption from the keyboard is for the pool's process
    for copy in inherited:
        copy.close()  # or the end of the pool's process would not show as the end of any pipe
    try:
        pipe.send(None)
        while True:
            pipe.send(_answer(function, pipe.recv()))
    except (EOFError, OSError):
        return  # the pool's process is gone


def _answer(function: Callable[[Any], Any], task: Any) -> Any:
    try:
        return function(task)
    except Exception as error:  # whatever it is, it must not stop the other tasks; the pool's user is told
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"
        return Failure(f"{type(error).__name__} at {place}, a fault of this program: please report it")
