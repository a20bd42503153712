"""Commands that are killed at random moments, meet a full disk or each other: nothing is lost or half-written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.imaging.chest_files import BROKEN, write_chest

pytestmark = pytest.mark.slow

KILLS = 10


@dataclass(frozen=True)
class Case:
    """A long command.

    Attributes:
        arguments: of a call into an output.
        goes_on: what is added when the output holds an unfinished run.
        results: files of the output that must be the same after kills, whichever they were; a pattern each.
    """

    arguments: Callable[[Path, Path], list[str]]
    results: tuple[str, ...]
    goes_on: tuple[str, ...] = ()


CASES = {
    "intake": Case(
        lambda inputs, out: ["intake", f"{inputs}/root", "-o", f"{out}", "--key_file", f"{inputs}/key", "--workers=2"],
        ("manifest.csv", "provenance.csv", "quarantine.csv", "images/*/*.png"),
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read; not to be changed."""
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(200):
        write_chest(folder / f"root/{number // 50}/{number}", number)
    for name, (content, _) in BROKEN.items():
        (folder / "root" / name).write_bytes(content)
    (folder / "key").write_text("a key that all runs share")
    return folder


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cxr_isnet", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(case: Case, inputs: Path, out: Path) -> None:
    """Runs a command to its end, going on with what an earlier run left."""
    begun = out.is_dir() and any(path.name != ".lock" for path in out.iterdir())
    process = start([*case.arguments(inputs, out), *(case.goes_on if begun else ())])
    _, shown = process.communicate(timeout=600)
    assert process.returncode == 0, shown


def results(case: Case, out: Path) -> dict[str, bytes]:
    files = [path for pattern in case.results for path in sorted(out.glob(pattern))]
    assert files
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", CASES)
def test_killed_at_random_moments_and_started_again_it_ends_as_if_nothing_had_been(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    case, moments = CASES[name], random.Random(0)
    for folder in ("undisturbed", "killed"):
        (tmp_path / folder).mkdir()
    begin = time.monotonic()
    finish(case, inputs, tmp_path / "undisturbed")
    duration = time.monotonic() - begin
    out = tmp_path / "killed"

    for _ in range(KILLS):
        begun = any(path.name != ".lock" for path in out.iterdir())
        process = start([*case.arguments(inputs, out), *(case.goes_on if begun else ())])
        try:
            process.wait(moments.uniform(0, duration))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:
            break  # it was done before its end came

    if process.returncode != 0:
        finish(case, inputs, out)
    assert results(case, out) == results(case, tmp_path / "undisturbed")
    assert not list(tmp_path.rglob("*.partial*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 20 MB, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", CASES)
def test_a_disk_that_fills_is_one_message_and_room_lets_it_go_on(
    name: str, inputs: Path, tmp_path: Path, small_disk: Path
) -> None:
    case, out = CASES[name], small_disk / "out"
    (tmp_path / "undisturbed").mkdir()
    finish(case, inputs, tmp_path / "undisturbed")
    filler = small_disk / "filler"
    filler.write_bytes(b"\0" * (20 * 2**20 - 300_000))
    out.mkdir()

    process = start(case.arguments(inputs, out))
    _, shown = process.communicate(timeout=600)

    assert process.returncode == 2, shown
    assert "Traceback" not in shown
    assert "space" in shown
    filler.unlink()
    finish(case, inputs, out)
    assert results(case, out) == results(case, tmp_path / "undisturbed")


@pytest.mark.parametrize("name", CASES)
def test_of_two_at_once_one_is_refused_and_the_other_ends_as_if_alone(name: str, inputs: Path, tmp_path: Path) -> None:
    case, out = CASES[name], tmp_path / "out"
    for folder in ("undisturbed", "out"):
        (tmp_path / folder).mkdir()
    finish(case, inputs, tmp_path / "undisturbed")

    both = [start(case.arguments(inputs, out)) for _ in range(2)]
    shown = [process.communicate(timeout=600)[1] for process in both]

    assert sorted(process.returncode for process in both) == [0, 2], shown
    assert results(case, out) == results(case, tmp_path / "undisturbed")


def test_a_worker_that_is_killed_costs_nothing(inputs: Path, tmp_path: Path) -> None:
    case, out = CASES["intake"], tmp_path / "out"
    (tmp_path / "undisturbed").mkdir()
    finish(case, inputs, tmp_path / "undisturbed")

    process = start(case.arguments(inputs, out))
    killed = 0
    while process.poll() is None and killed < 12:
        time.sleep(0.05)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if len(workers) == 2:
            os.kill(int(workers[killed % 2]), signal.SIGKILL)
            killed += 1
    _, shown = process.communicate(timeout=600)

    assert (process.returncode, killed > 0) == (0, True), shown
    finish(case, inputs, out)  # a file whose worker was killed twice is tried again
    assert results(case, out) == results(case, tmp_path / "undisturbed")
