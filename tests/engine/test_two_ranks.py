"""Two processes, joined by gloo: what must be alike in both of them."""

import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from . import two_ranks


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two found, by rank."""
    file = tmp_path_factory.mktemp("ranks") / "found"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, two_ranks.__file__, str(file)],
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return [json.loads(file.with_suffix(f".{rank}.json").read_text()) for rank in (0, 1)]


def test_both_validate_with_the_batch_statistics_of_the_main_process(ranks: list[dict[str, Any]]) -> None:
    """Each saw other images, so their batch norms have other means: 1 + the sum over an image of the main process."""
    main, other = ranks

    assert main["buffers"]["1.running_mean"] == [6.5, 6.5]
    assert other["buffers"] == main["buffers"]
    assert other["output"] == main["output"]


def test_one_of_them_is_the_main_process(ranks: list[dict[str, Any]]) -> None:
    assert [found["is_main"] for found in ranks] == [True, False]
    assert [found["count"] for found in ranks] == [2, 2]


def test_both_have_the_means_of_both(ranks: list[dict[str, Any]]) -> None:
    assert [found["mean"] for found in ranks] == [{"loss": 1.5, "auc": 2.0}] * 2
