"""One of two processes that share what a training shares, without a training; started by `test_two_ranks`.

Usage: python two_ranks.py FILE, which it writes with its rank before the suffix.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from cxr_isnet.engine.devices import Device
from cxr_isnet.engine.distributed import distributed_context


def run(file: Path) -> None:
    """Everything that differs by rank, made alike."""
    with distributed_context(Device.CPU) as context:
        network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, momentum=1.0))
        for weight in network.parameters():
            nn.init.ones_(weight)
        images = torch.tensor([[1.0, 2.0], [3.0, 5.0]]) + 10 * context.rank
        network(images)
        context.synchronise_buffers(network)
        network.eval()

        found = {
            "is_main": context.is_main,
            "count": context.count,
            "buffers": {name: buffer.tolist() for name, buffer in network.named_buffers()},
            "output": network(torch.ones(1, 2)).tolist(),
            "mean": context.mean({"loss": 1.0 + context.rank, "auc": 4.0 * context.rank}),
        }
        file.with_suffix(f".{context.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
