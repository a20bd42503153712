"""Two processes, joined by gloo, against one."""

import os
import socket
import subprocess
import sys

import pandas as pd
import pytest
import torch

from cxr_isnet.engine.devices import Device
from cxr_isnet.engine.distributed import DistributedContext, distributed_context
from cxr_isnet.errors import InputError
from tests.checkpoints import weights

from . import two_processes


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_two(*arguments: str) -> list[int]:
    """Runs the script in two processes as torchrun would; their exit statuses."""
    port = free_port()

    def start(rank: int) -> subprocess.Popen:
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, two_processes.__file__, *arguments]
        return subprocess.Popen(command, env=os.environ | ranks | meeting)

    return [process.wait(timeout=600) for process in [start(0), start(1)]]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("cross_entropy", "balanced", "group_dro", "rrr")]


@pytest.mark.parametrize("method", [*SLOW, "isnet"])
def test_two_processes_train_the_weights_of_one(method, phantom_manifest, tmp_path):
    two_processes.run(str(phantom_manifest), str(tmp_path / "one"), method)

    statuses = start_two(str(phantom_manifest), str(tmp_path / "two"), method)

    assert statuses == [0, 0]
    for file in ("last.pt", "best.pt"):
        expected, found = weights(str(tmp_path / "one"), file), weights(str(tmp_path / "two"), file)
        assert expected.keys() == found.keys()
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-6, msg=key)
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two"))
    terms = [column for column in one.columns if column != "masked"]  # masked: how many images of a process's batch
    pd.testing.assert_frame_equal(two[terms], one[terms], rtol=1e-4)


def test_batches_are_shared_out_evenly_or_not_at_all():
    here = DistributedContext(0, 2, torch.device("cpu"))

    assert here.share_batch(6) == 3
    with pytest.raises(InputError, match="batch_size is 5; it must be a multiple of the 2 processes"):
        here.share_batch(5)


def test_alone_nothing_is_wrapped_or_averaged():
    with distributed_context(Device.CPU) as here:
        module = torch.nn.Linear(1, 1)

        assert (here.rank, here.count, here.is_main) == (0, 1, True)
        assert here.wrap(module) is module
        assert here.mean({"loss": 2.0}) == {"loss": 2.0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_reported():
    with (
        pytest.raises(InputError, match="torch sees no GPU: use device=cpu or device=auto"),
        distributed_context(Device.CUDA),
    ):
        pass
