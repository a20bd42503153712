import os
import signal

from cxr_isnet.intake.process_pool import Failure, ProcessPool


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
    assert results["die"] == Failure("its process died 2 times")
    assert results["raise"].detail.startswith("KeyError at ")
    assert "CANARY" not in results["raise"].detail


def test_a_task_that_takes_too_long_is_given_up():
    with ProcessPool(treat, size=1, patience=0.5) as pool:
        assert list(pool.results(["hang"])) == [("hang", Failure("took longer than 0.5 s"))]


def test_tasks_are_drawn_as_they_are_needed():
    drawn = []

    def tasks():
        for number in range(50):
            drawn.append(number)
            yield number

    with ProcessPool(treat, size=2) as pool:
        for done, _ in enumerate(pool.results(tasks()), start=1):
            assert len(drawn) <= done + 2


def test_no_tasks():
    with ProcessPool(treat, size=1) as pool:
        assert list(pool.results([])) == []
