"""Commands that are killed at random moments, meet a full disk or each other: nothing is lost, doubled, half-written or
taken for finished."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.killed_commands import CASES, STORE, runs, write_inputs

pytestmark = pytest.mark.slow

KILLS = 10
DISK = 20 * 2**20


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, float]]:
    """The output of a command that nothing disturbed, and the seconds that it took."""
    made: dict[str, tuple[Path, float]] = {}

    def run(name: str) -> tuple[Path, float]:
        if name not in made:
            out = tmp_path_factory.mktemp("undisturbed") / "out"
            out.mkdir()
            begin = time.monotonic()
            CASES[name].finish(inputs, out)
            made[name] = out, time.monotonic() - begin
        return made[name]

    return run


def assert_as_if_nothing_had_been(name: str, out: Path, whole: Path) -> None:
    found, expected = CASES[name].found(out), CASES[name].found(whole)
    assert expected
    assert sorted(found) == sorted(expected)
    assert [path for path, content in expected.items() if found[path] != content] == []
    assert [path for path in out.parent.rglob(".*") if ".partial" in path.name or ".parts" in path.name] == []
    if CASES[name].logs:
        assert runs(out.parent / STORE) <= runs(whole.parent / STORE)


@pytest.mark.parametrize("name", CASES)
def test_killed_at_random_moments_and_started_again_it_ends_as_if_nothing_had_been(
    name: str, inputs: Path, tmp_path: Path, undisturbed: Callable[[str], tuple[Path, float]]
) -> None:
    case, moments, (whole, duration) = CASES[name], random.Random(0), undisturbed(name)
    out = tmp_path / "out"
    out.mkdir()

    for _ in range(KILLS):
        process = case.start(inputs, out)
        try:
            process.wait(moments.uniform(duration / 4, duration))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        _, shown = process.communicate()
        assert process.returncode in (0, 2, -signal.SIGKILL), shown
        if process.returncode != -signal.SIGKILL:
            break

    if process.returncode == 2:  # killed between its results and its end, as the folder is told to be full
        assert "not empty" in shown
    elif process.returncode != 0:
        case.finish(inputs, out)
    assert_as_if_nothing_had_been(name, out, whole)


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """A disk of so many bytes, in memory."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("no right to mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", CASES)
def test_a_disk_that_fills_is_one_message_and_room_lets_it_go_on(
    name: str, inputs: Path, tmp_path_factory: pytest.TempPathFactory, undisturbed: Callable[[str], tuple[Path, float]]
) -> None:
    case, (whole, _) = CASES[name], undisturbed(name)
    disk = tmp_path_factory.mktemp("disk")  # as deep as the undisturbed one: tables name files by their way from there
    needed, room = size_of(whole.parent), size_of(whole) // 2  # MLflow's store beside the output may fail unheeded
    size = DISK + 2 * needed  # what is written anew stands beside the old for a moment
    begun = (inputs / STORE).stat().st_size if case.logs else 0

    with mounted(disk, size):
        out, filler = disk / "out", disk / "filler"
        filler.write_bytes(b"\0" * (size - begun - room))
        out.mkdir()

        process = case.start(inputs, out)
        _, shown = process.communicate(timeout=600)

        assert process.returncode == 2, shown
        assert "Traceback" not in shown
        assert "space" in shown
        filler.unlink()
        case.finish(inputs, out)
        assert_as_if_nothing_had_been(name, out, whole)


@pytest.mark.parametrize("name", CASES)
def test_of_two_at_once_one_is_refused_and_the_other_ends_as_if_alone(
    name: str, inputs: Path, tmp_path: Path, undisturbed: Callable[[str], tuple[Path, float]]
) -> None:
    case, (whole, _), out = CASES[name], undisturbed(name), tmp_path / "out"
    out.mkdir()

    both = [case.start(inputs, out) for _ in range(2)]
    shown = [process.communicate(timeout=1200)[1] for process in both]

    assert sorted(process.returncode for process in both) == [0, 2], shown
    assert_as_if_nothing_had_been(name, out, whole)


def test_a_worker_that_is_killed_costs_nothing(
    inputs: Path, tmp_path: Path, undisturbed: Callable[[str], tuple[Path, float]]
) -> None:
    case, (whole, _), out = CASES["intake"], undisturbed("intake"), tmp_path / "out"

    process = case.start(inputs, out)
    killed = 0
    while process.poll() is None and killed < 12:
        time.sleep(0.05)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if len(workers) == 2:
            os.kill(int(workers[killed % 2]), signal.SIGKILL)
            killed += 1
    _, shown = process.communicate(timeout=600)

    assert (process.returncode, killed > 0) == (0, True), shown
    case.finish(inputs, out)  # a file whose worker was killed twice is tried again
    assert_as_if_nothing_had_been("intake", out, whole)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answers(port: int, path: str, body: bytes | None = None, seconds: float = 300) -> bytes:
    """What a server says, waited for while it starts."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return bytes(answer.read())
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > until:
                raise
            time.sleep(0.2)


@contextmanager
def tracking_server(folder: Path, port: int) -> Iterator[None]:
    """MLflow's server in processes of its own, killed at the end."""
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / STORE}", "--artifacts-destination", str(folder / "artifacts")),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        answers(port, "/health")
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_tracking_server_that_is_killed_ends_no_training_and_gets_what_it_missed(
    inputs: Path, tmp_path: Path, undisturbed: Callable[[str], tuple[Path, float]]
) -> None:
    (whole, _), out, port = undisturbed("train"), tmp_path / "out", free_port()
    case = replace(CASES["train"], store=f"http://127.0.0.1:{port}")
    with tracking_server(tmp_path, port):
        process = case.start(inputs, out)
        while not (out / "run.json").is_file():
            assert process.poll() is None
            time.sleep(0.05)
    _, shown = process.communicate(timeout=1200)

    assert process.returncode == 0, shown
    assert "A training that is resumed (--resume true) sends them" in shown
    assert case.found(out) == case.found(whole)
    assert not runs(tmp_path / STORE)
    with tracking_server(tmp_path, port):
        case.finish(inputs, out)
    assert case.found(out) == case.found(whole)
    assert runs(tmp_path / STORE) == runs(whole.parent / STORE)


def test_a_server_that_is_killed_amid_a_request_leaves_no_process_and_starts_again(inputs: Path) -> None:
    """The server alone is killed, as by a system short of memory; the processes that decode must end by themselves."""
    port = free_port()
    command = [sys.executable, "-m", "cxr_isnet", "serve", f"{inputs}/trained/best.pt", f"--port={port}"]
    images = sorted((inputs / "Cedar" / "images").iterdir())
    body = json.dumps({"inputs": [base64.b64encode(path.read_bytes()).decode() for path in images]}).encode()
    process = subprocess.Popen([*command, "--device=cpu"], start_new_session=True)
    answer = answers(port, "/invocations", body)
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    with ThreadPoolExecutor(8) as callers:
        calls = [callers.submit(answers, port, "/invocations", body, 0) for _ in range(8)]
        time.sleep(0.1)
        process.kill()
        process.wait()
        assert {type(call.exception()) for call in calls} - {type(None)}

    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert len(workers) == 2
    process = subprocess.Popen([*command, "--device=cpu"], start_new_session=True)
    try:
        assert answers(port, "/invocations", body) == answer
    finally:
        process.terminate()
        process.wait(60)
