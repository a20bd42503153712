"""Cost of an ISNet training step as a ratio to the plain step of the same network, measured in turn in one process.

    python benchmarks/training_step.py --size 224 --batch 8 --threads 1 --json result.json
    python benchmarks/training_step.py --network vit_b16 --steps plain selective double_backward
    python benchmarks/training_step.py --network efficientnet_b0 --compile

Times are CPU seconds of the process (on a GPU, seconds between synchronisations); medians over the rounds. By counting
passes (forward, gradient of inputs, gradient of weights) a plain step is 3 and each map of LRP-epsilon adds 3: 2.0 for
one map, 4.0 for three. `flop_ratio` is that floor counted by torch as the warm-up round runs; for `dual` it is higher,
as z+ needs positive contributions of its own, and behind a concatenation the negative ones too. Peak memory is measured
in a process of its own for each step.

`double_backward` is the rival: maps as the reference implementation's LRP-Flex makes them (Bassi, Decherchi, Cavalli
2024), gradient times input with a modified derivative of activations, differentiated through `create_graph=True`; the
same loss on the image's map of every class, without deep supervision. Compare it with `original_image`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks.activation import MemoryEfficientSwish, Swish
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.methods import find_method
from cxr_isnet.objectives.objective import Objective
from cxr_isnet.relevance import Relevance

CLASSES = 3
EPSILON = 1e-2
STEPS: dict[str, tuple[str, dict[str, object]]] = {
    "plain": ("cross_entropy", {}),
    "selective": ("isnet_selective", {}),
    "stochastic": ("isnet_stochastic", {}),
    "original": ("isnet", {}),
    "dual": ("isnet_dual", {}),
    "original_image": ("isnet", {"deep_supervision": False}),
    "double_backward": ("isnet", {"deep_supervision": False}),
}


class ModifiedDerivative(torch.autograd.Function):
    """An activation with two derivatives: its own, and, while maps are made, f(x) / (x + epsilon sign x)."""

    explaining = False

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        y = function(x)
        ctx.save_for_backward(x, y)
        ctx.function = function
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        if ModifiedDerivative.explaining:
            return gradients[0] * y / (x + EPSILON * torch.where(x >= 0, 1.0, -1.0)), None
        return torch.func.vjp(ctx.function, x)[1](gradients[0])[0], None


class DoubleBackward(nn.Module):
    """Logits and maps (B, classes, C, H, W) by autograd's derivative of the logits, which can be differentiated."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        functions: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {nn.ReLU: F.relu, Swish: F.silu, nn.GELU: F.gelu}
        functions |= {MemoryEfficientSwish: F.silu, nn.SiLU: F.silu}
        for module in network.modules():
            if type(module) in functions:
                function = functions[type(module)]
                module.forward = lambda x, function=function: ModifiedDerivative.apply(x, function)

    @torch.enable_grad()
    def forward(self, images: Tensor, target: object = None) -> tuple[Tensor, Relevance]:
        """As `LRP`."""
        image = images.detach().requires_grad_()
        logits = self.network(image)
        ModifiedDerivative.explaining = True
        maps = [torch.autograd.grad(logits[:, k].sum(), image, create_graph=True)[0] * image for k in range(CLASSES)]
        ModifiedDerivative.explaining = False
        return logits, Relevance(torch.stack(maps, 1), {})


def main() -> None:
    """Measures memory, then all steps in turn; prints the result and writes it to `--json`."""
    args = _arguments()
    memory = _memory(args)  # first: this process will hold on to the memory of all steps
    _prepare(args.threads)
    batch = _batch(args)
    steps = {name: _step(_objective(name, args), batch, args) for name in args.steps}
    rounds: dict[str, list[float]] = {name: [] for name in args.steps}
    flops = {name: _flops(step) for name, step in steps.items() if name != "double_backward"}  # this also warms up
    if "double_backward" in steps:
        steps["double_backward"]()  # the counter's hooks do not stand torch.autograd.grad
    for _ in range(args.rounds):
        for name, step in steps.items():
            rounds[name].append(_clock(step, args.device))
    plain = statistics.median(rounds["plain"])
    result = {
        "plain_seconds": plain,
        "ratio": {n: statistics.median(rounds[n]) / plain for n in args.steps if n != "plain"},
        "ratio_range": {
            n: [min(pairs), max(pairs)]
            for n in args.steps
            if n != "plain" and (pairs := [a / b for a, b in zip(rounds[n], rounds["plain"], strict=True)])
        },
        "flop_ratio": {n: count / flops["plain"] for n, count in flops.items() if n != "plain"},
        "memory_ratio": {n: memory[n] / memory["plain"] for n in args.steps if n != "plain"},
        "settings": {
            k: getattr(args, k)
            for k in ("size", "batch", "threads", "rounds", "device", "precision", "network", "compile")
        },
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=2))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="rows and columns of the image")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--network", default="densenet121")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="plain among them")
    parser.add_argument("--compile", action="store_true", help="compile all steps but double_backward, which cannot be")
    parser.add_argument("--json", help="file for the result")
    return parser.parse_args()


def _prepare(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)


def _objective(name: str, args: argparse.Namespace) -> Objective:
    method, options = find_method(STEPS[name][0]), STEPS[name][1]
    network = NetworkConfig(args.network)
    objective = method.objective(network, CLASSES, args.size, method.options(**options)).to(args.device).train()
    if name == "double_backward":
        objective._lrp = DoubleBackward(objective.network)
    if hasattr(objective, "bounds"):  # as if they had been measured: what they are costs nothing
        objective.bounds[..., 0], objective.bounds[..., 1] = 1.0, 25.0
    return objective


def _batch(args: argparse.Namespace) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(args.batch, 1, args.size, args.size)
    quarter = args.size // 4
    mask[..., quarter:-quarter, quarter:-quarter] = 1
    batch = {
        "image": torch.rand(args.batch, 1, args.size, args.size, generator=generator),
        "mask": mask,
        "has_mask": torch.ones(args.batch, dtype=torch.bool),
        "label": torch.randint(CLASSES, (args.batch,), generator=generator),
    }
    return {key: value.to(args.device) for key, value in batch.items()}


def _step(objective: Objective, batch: dict[str, Tensor], args: argparse.Namespace) -> Callable[[], None]:
    rival = isinstance(getattr(objective, "_lrp", None), DoubleBackward)
    run = torch.compile(objective, fullgraph=True, dynamic=False) if args.compile and not rival else objective

    def step() -> None:
        objective.zero_grad(set_to_none=True)
        with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"):
            loss = run(batch)["loss"]
        loss.backward()

    return step


def _flops(step: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def _clock(step: Callable[[], None], device: str) -> float:
    if device == "cpu":
        start = time.process_time()
        step()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _memory(args: argparse.Namespace) -> dict[str, float]:
    """Bytes that two steps need at most, beyond what was in use before; each kind of step in a fresh process."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for name in args.steps:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_measure_memory, args=(name, args, sender))
        process.start()
        sender.close()  # so that a process that dies ends the wait
        try:
            found[name] = receiver.recv()
        except EOFError:
            process.join()
            raise SystemExit(f"the process for the memory of '{name}' ended with status {process.exitcode}") from None
        process.join()
    return found


def _measure_memory(name: str, args: argparse.Namespace, sender: Connection) -> None:
    _prepare(args.threads)
    objective, batch = _objective(name, args), _batch(args)
    step = _step(objective, batch, args)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = _peak()
    for _ in range(2):
        step()
    sender.send(float((torch.cuda.max_memory_allocated() if args.device == "cuda" else _peak()) - before))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
