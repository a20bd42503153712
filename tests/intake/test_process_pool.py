import os
import signal
import sys
import time
from multiprocessing.connection import wait
from types import SimpleNamespace

import pytest

from cxr_isnet.intake import process_pool
from cxr_isnet.intake.process_pool import ProcessPool, TaskFailure


def treat(task):
    """A task that is a word is a way to fail; a path is a way to fail once."""
    if isinstance(task, int):
        return task * task
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "raise":
        raise KeyError("CANARY")
    if task == "hang":
        signal.pause()
    if task == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        return "not interrupted"
    if task == "fill":
        return len(bytearray(10**9))
    if task == "who":
        return os.getpid()
    if not os.path.exists(task):
        open(task, "w").close()
        os._exit(1)
    return "second try"


def test_every_task_has_its_result_also_when_processes_die_or_raise(tmp_path):
    once = str(tmp_path / "once")
    tasks = [1, "die", 2, "raise", once, 3]

    with ProcessPool(treat, size=1) as pool:
        results = dict(pool.results(tasks))

    assert {task: results[task] for task in (1, 2, 3, once)} == {1: 1, 2: 4, 3: 9, once: "second try"}
    assert results["die"] == TaskFailure("its process died 2 times")
    assert results["raise"].detail.startswith("KeyError at ")
    assert "CANARY" not in results["raise"].detail


def test_an_overdue_task_fails():
    with ProcessPool(treat, size=1, timeout=0.5) as pool:
        assert list(pool.results(["hang"])) == [("hang", TaskFailure("took longer than 0.5 s", over_limit=True))]


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_a_task_that_needs_more_memory_than_it_may_fails_and_leaves_none_missing_for_the_next():
    with ProcessPool(treat, size=1, memory=10**8) as pool:
        results = list(pool.results(["fill", 3, "who"]))

    assert results[:2] == [("fill", TaskFailure("needs more memory than one file may", over_limit=True)), (3, 9)]


def test_a_result_that_waits_to_be_received_is_not_overdue(monkeypatch):
    with ProcessPool(treat, size=2, timeout=1000) as pool:
        results = pool.results([1, 2])
        first = next(results)
        wait([worker.pipe for worker in pool._workers])  # the other result is there, and the caller was slow
        monkeypatch.setattr(process_pool, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 2000))

        assert sorted([first, *results]) == [(1, 1), (2, 4)]


def test_an_interruption_from_the_keyboard_is_for_the_parent_process():
    with ProcessPool(treat, size=1) as pool:
        assert list(pool.results(["interrupt"])) == [("interrupt", "not interrupted")]


def test_a_worker_that_crashed_while_idle_is_replaced():
    with ProcessPool(treat, size=1) as pool:
        ((_, worker),) = pool.results(["who"])
        os.kill(worker, signal.SIGKILL)
        wait([pool._workers[0].process.sentinel])

        assert list(pool.results([3])) == [(3, 9)]


def test_a_worker_that_is_killed_as_it_starts_is_started_again(monkeypatch):
    start, started = ProcessPool._start, []

    def start_and_kill_the_second(pool):
        worker = start(pool)
        started.append(worker)
        if len(started) == 2:
            worker.process.kill()
            worker.process.join()
        return worker

    monkeypatch.setattr(ProcessPool, "_start", start_and_kill_the_second)
    with ProcessPool(treat, size=1) as pool:
        assert dict(pool.results(["die", 3])) == {"die": TaskFailure("its process died 2 times"), 3: 9}

    assert len(started) == 4


def test_tasks_are_consumed_as_they_are_needed():
    consumed = []

    def tasks():
        for number in range(50):
            consumed.append(number)
            yield number

    with ProcessPool(treat, size=2) as pool:
        for done, _ in enumerate(pool.results(tasks()), start=1):
            assert len(consumed) <= done + 2


def test_no_tasks():
    with ProcessPool(treat, size=1) as pool:
        assert list(pool.results([])) == []
