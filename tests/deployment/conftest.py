"""Real servers, started on loopback with free ports and ended with the tests that are marked `services`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.test_elsewhere import free_port


def postgres_program(name: str) -> str:
    """Of the PATH, or of Debian's folder of the newest version."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))[::-1]), "")
    if not found:
        pytest.skip(f"{name} is missing: apt-get install postgresql")
    return found


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Address of a PostgreSQL that runs as a user of its own where the tests run as root, which it refuses."""
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # not below pytest's folder, which others than root cannot enter
    folder.chmod(0o777)
    port = free_port()
    data = folder / "data"
    subprocess.run(
        [postgres_program("initdb"), "-D", str(data), "-U", "cxr", "--auth=trust", "-E", "UTF8"],
        check=True, user=user, stdout=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    server = subprocess.Popen(
        [postgres_program("postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder)],
        user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        ready = [postgres_program("pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        until = time.monotonic() + 60
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < until
            time.sleep(0.2)
        yield f"postgresql+psycopg2://cxr@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def registry(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server with that database, which proxies the artifacts."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--host", "127.0.0.1",
        "--port", str(port), "--artifacts-destination", str(folder / "artifacts"), "--workers", "1",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            until = time.monotonic() + 180
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                        break
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    assert time.monotonic() < until
                    assert server.poll() is None, (folder / "log").read_text()
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=60)
