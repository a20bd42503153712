"""A pool of worker processes that survives crashes of its workers, and whose workers exit when its own process dies.

Each worker has a pipe of its own. When one crashes, its task is known; when the parent process is killed, every worker
reads the end of its pipe and exits. The pools of the standard library offer neither.

On Linux a worker is forked from the parent process, with all modules imported: it starts at once instead of after half
a second. It must not use the parent's threads, databases and open files.
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
from pathlib import Path
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

TASK_TIMEOUT = 600.0
"""Seconds after which the worker of an unfinished task is killed."""
_MAX_TRIES = 2
_MAX_STARTS = 5
_FORKS = sys.platform == "linux"


@dataclass(frozen=True)
class TaskFailure:
    """The failure of a task that has no result.

    Attributes:
        detail: how it failed, without the message of an exception, which may quote a header.
        over_limit: whether it took more time or memory than a task may.
    """

    detail: str
    over_limit: bool = False


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection


@dataclass(frozen=True)
class _RunningTask(Generic[Task]):
    task: Task
    tries: int
    started: float  # by time.monotonic


class ProcessPool(Generic[Task, Result]):
    """Worker processes that apply one function to many tasks; a context manager."""

    def __init__(
        self,
        function: Callable[[Task], Result],
        size: int,
        timeout: float = TASK_TIMEOUT,
        memory: int | None = None,
    ) -> None:
        """Starts the workers.

        Args:
            function: picklable; an exception that it raises becomes a `TaskFailure`.
            size: number of workers.
            timeout: seconds that one task may take.
            memory: bytes that a worker may allocate for its tasks, on Linux; None for any number.

        Raises:
            RuntimeError: a worker does not start.
        """
        self._function = function
        self._timeout = timeout
        self._memory = memory
        self._killed: list[_Worker] = []
        self._workers: list[_Worker] = []
        for _ in range(size):
            self._workers.append(self._start())
        for worker in self._workers:
            _wait_until_started(worker)

    def __enter__(self) -> ProcessPool[Task, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        """Kills all workers, even during a task."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | TaskFailure]]:
        """Distributes tasks to idle workers.

        Args:
            tasks: consumed as workers become idle, never ahead of them.

        Yields:
            Each task with its result, in order of completion. A task whose worker crashed is tried once more.
        """
        pending = iter(tasks)
        idle = list(range(len(self._workers)))
        running: dict[int, _RunningTask[Task]] = {}
        while True:
            while idle and (task := next(pending, None)) is not None:
                self._submit(idle.pop(), task, 1, running)
            if not running:
                return
            pipes: dict[Any, int] = {self._workers[index].pipe: index for index in running}
            for pipe in wait(list(pipes), timeout=self._kill_overdue(running)):
                index = pipes[pipe]
                finished = running.pop(index)
                result = self._receive(index, finished)
                if result is None:
                    self._submit(index, finished.task, finished.tries + 1, running)
                else:
                    idle.append(index)
                    yield finished.task, result

    def _submit(self, index: int, task: Task, tries: int, running: dict[int, _RunningTask[Task]]) -> None:
        try:
            self._workers[index].pipe.send(task)
        except OSError:  # it crashed while it was idle: the task is not the cause
            self._replace(index)
            self._workers[index].pipe.send(task)
        running[index] = _RunningTask(task, tries, time.monotonic())

    def _receive(self, index: int, finished: _RunningTask[Task]) -> Result | TaskFailure | None:
        """The result that a worker sent; None where it crashed and the task is to be tried again."""
        worker = self._workers[index]
        try:
            result: Result | TaskFailure = worker.pipe.recv()
        except (EOFError, OSError):
            self._replace(index)
            if worker in self._killed:
                self._killed.remove(worker)
                return TaskFailure(f"took longer than {self._timeout:g} s", over_limit=True)
            return TaskFailure(f"its process died {_MAX_TRIES} times") if finished.tries >= _MAX_TRIES else None
        if isinstance(result, TaskFailure) and result.over_limit:
            self._replace(index)  # it ends: what is left in its memory would be missing for the next task
        return result

    def _kill_overdue(self, running: dict[int, _RunningTask[Task]]) -> float:
        """Kills the workers of overdue tasks; returns the seconds until the next task is overdue."""
        left = {index: task.started + self._timeout - time.monotonic() for index, task in running.items()}
        for index, seconds in left.items():
            worker = self._workers[index]
            if seconds < 0 and not worker.pipe.poll():  # a result may be there that was not received yet
                self._killed.append(worker)
                worker.process.kill()
        return max(min(left.values()), 0.05)

    def _replace(self, index: int) -> None:
        self._workers[index].pipe.close()
        self._workers[index].process.join()
        for attempt in range(1, _MAX_STARTS + 1):
            self._workers[index] = self._start()
            try:
                _wait_until_started(self._workers[index])
                return
            except RuntimeError:  # whatever killed the one before, as a system short of memory, may kill this one too
                if attempt == _MAX_STARTS:
                    raise
                self._workers[index].pipe.close()

    def _start(self) -> _Worker:
        context: Any = multiprocessing.get_context("fork" if _FORKS else "spawn")
        parent_end, worker_end = context.Pipe()
        inherited = [*(worker.pipe for worker in self._workers), parent_end] if _FORKS else []
        arguments = (worker_end, inherited, self._function, self._memory)
        process = context.Process(target=_worker_main, args=arguments, daemon=True)
        process.start()
        worker_end.close()  # otherwise the pipe would stay open when the worker exits
        return _Worker(process, parent_end)


def _wait_until_started(worker: _Worker) -> None:
    """Waits until a worker has started, so that a failure to start is not attributed to its first task."""
    try:
        worker.pipe.recv()
    except (EOFError, OSError) as error:
        worker.process.join()
        raise RuntimeError(f"a worker did not start: exit status {worker.process.exitcode}") from error


def _worker_main(
    pipe: Connection, inherited: list[Connection], function: Callable[[Any], Any], memory: int | None
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption from the keyboard is for the parent process
    for copy in inherited:
        copy.close()  # otherwise no pipe would end when the parent process exits
    if memory is not None:
        _limit_memory(memory)
    try:
        pipe.send(None)
        while True:
            result = _run_task(function, pipe.recv())
            pipe.send(result)
            if isinstance(result, TaskFailure) and result.over_limit:
                return
    except (EOFError, OSError):
        return  # the parent process has exited


def _limit_memory(memory: int) -> None:
    """Limits what this process may allocate beyond what it has; an allocation of more is a MemoryError."""
    if sys.platform == "linux":
        import resource

        status = Path("/proc/self/status").read_text()
        used = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:"))
        resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))


def _run_task(function: Callable[[Any], Any], task: Any) -> Any:
    try:
        return function(task)
    except MemoryError:
        return TaskFailure("needs more memory than one file may", over_limit=True)
    except Exception as error:  # whatever it is, it must not stop the other tasks; the caller gets it as a result
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        location = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"
        return TaskFailure(f"{type(error).__name__} at {location}, a fault of this program: please report it")
