"""Killed for real, in the middle, and started again: the tables are those of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cxr_isnet.commands.intake import IntakeConfig, intake
from cxr_isnet.intake.import_log import IMPORT_LOG_NAME
from tests.imaging.chest_files import BROKEN, write_chest

TABLES = ("manifest.csv", "provenance.csv", "quarantine.csv")

KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from cxr_isnet.intake import import_log
from cxr_isnet.commands.intake import IntakeConfig, intake
entered, enter = [], import_log.ImportLog.record
def enter_and_die(self, *outcome):
    enter(self, *outcome)
    entered.append(outcome)
    if len(entered) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
import_log.ImportLog.record = enter_and_die
intake(IntakeConfig(sys.argv[1], sys.argv[2], key_file=sys.argv[4], workers=2))
"""


@pytest.fixture
def key(tmp_path):
    (tmp_path / "key").write_text("a key that both runs share")
    return tmp_path / "key"


def tables(out):
    return {name: (out / name).read_bytes() for name in TABLES}


def images(out):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*.png")}


def undisturbed(root, out, key):
    intake(IntakeConfig(str(root), str(out), key_file=str(key), workers=2))
    return tables(out), images(out)


def test_killed_twice_the_tables_are_those_of_an_undisturbed_run(tmp_path, key):
    for number in range(14):
        write_chest(tmp_path / f"root/{number:02d}", number)
    for name, (content, _) in list(BROKEN.items())[:4]:
        (tmp_path / f"root/{name}").write_bytes(content)
    for many in ("5", "4"):
        command = [sys.executable, "-c", KILLED_IN_THE_MIDDLE, tmp_path / "root", tmp_path / "out", many, key]
        # the pipe of the output closes when the last worker has left: none may outlive the killed process
        ended = subprocess.run(command, capture_output=True, timeout=300)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not (tmp_path / "out/manifest.csv").exists()
        (tmp_path / "out/images/00").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out/images/00/.00.1.partial.png").write_bytes(b"half an image")

    found = undisturbed(tmp_path / "root", tmp_path / "out", key)

    assert found == undisturbed(tmp_path / "root", tmp_path / "undisturbed", key)
    assert not list(tmp_path.rglob("*.partial*"))


@pytest.mark.slow
def test_two_thousand_files_killed_from_outside_twice(tmp_path, key):
    broken = list(BROKEN.values())[:10]
    for number in range(2000):
        path = tmp_path / f"root/{number // 100:02d}/{number:04d}"
        if number % 100 == 50:
            path.write_bytes(broken[number // 100 % 10][0] + bytes([number // 1000]))
        else:
            write_chest(path, number)
    command = f"from cxr_isnet.commands.intake import *; intake(IntakeConfig({str(tmp_path / 'root')!r}, "
    command += f"{str(tmp_path / 'out')!r}, key_file={str(key)!r}, workers=2))"
    for images_at_least in (400, 1200):
        with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE) as process:
            _wait_for_images(tmp_path / "out", images_at_least, process)
            process.kill()
            process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "out/manifest.csv").exists()
        assert (tmp_path / "out" / IMPORT_LOG_NAME).exists()

    found = undisturbed(tmp_path / "root", tmp_path / "out", key)

    assert found == undisturbed(tmp_path / "root", tmp_path / "undisturbed", key)
    assert len(found[0]["manifest.csv"].splitlines()) == 1 + 1980
    assert len(found[0]["quarantine.csv"].splitlines()) == 1 + 20


def _wait_for_images(out: Path, number: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 600
    while sum(len(names) for _, _, names in os.walk(out / "images")) < number:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
