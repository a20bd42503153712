"""All that is to be known of a GPU machine in one go: training step, compiled step, host waits, loading, predicting.

    python benchmarks/gpu.py --json result.json
    python benchmarks/gpu.py --device cpu --quick

Prints the card first, then a block for each part; on a GPU in under 8 minutes. Training steps are ratios to the plain
eager step of the same run, float32 with TF32 unless `--precision` says otherwise. A part that fails says why, and the
others go on. `--quick` takes a tiny network and few rounds, to see that all parts run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loader
import torch

from cxr_isnet.data import ImageConfig
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.objectives import Objective, find_method

STEPS = {"plain": "cross_entropy", "one map": "isnet_selective", "three maps": "isnet"}
CLASSES = 3
Result = dict[str, Any]


def steps(args: argparse.Namespace) -> Result:
    """Seconds of a training step, eager and compiled in one graph, as ratios to the plain eager one."""
    batch = example_batch(args)
    calls: dict[str, Callable[[], None]] = {}
    for name, method in STEPS.items():
        calls[f"{name}, eager"] = step(made(method, args, batch), batch, args)
        compiled = torch.compile(
            made(method, args, batch),
            fullgraph=True,
            dynamic=False,
            mode="reduce-overhead" if args.device == "cuda" else "default",
        )
        calls[f"{name}, compiled"] = step(compiled, batch, args)
    seconds = in_turn(calls, args)
    plain = statistics.median(seconds["plain, eager"])
    found = {name: statistics.median(taken) / plain for name, taken in seconds.items()}
    return {"plain_seconds": plain, "images_per_s": args.batch / plain, "ratio": found}


def gradients(args: argparse.Namespace) -> Result:
    """Cosine and largest difference of the weight gradients of a compiled step and of an eager one."""
    batch, found = example_batch(args), {}
    for name, method in STEPS.items():
        eager = made(method, args, batch)
        eager(batch)["loss"].backward()
        expected = torch.cat([p.grad.flatten() for p in eager.parameters()])
        eager.zero_grad()
        torch.compile(eager, fullgraph=True, dynamic=False)(batch)["loss"].backward()
        compiled = torch.cat([p.grad.flatten() for p in eager.parameters()])
        cosine = torch.nn.functional.cosine_similarity(expected.double(), compiled.double(), 0)
        error = float((expected - compiled).abs().max() / expected.abs().max())
        found[name] = {"cosine": float(cosine), "largest_error": error}
    return found


def waits(args: argparse.Namespace) -> Result:
    """Whether a step of each kind waits for the GPU, by torch's own watch for it."""
    if args.device != "cuda":
        return {"skipped": "there is no GPU to wait for"}
    batch, found = example_batch(args), {}
    for name, method in STEPS.items():
        once = step(made(method, args, batch), batch, args)
        once()
        torch.cuda.set_sync_debug_mode("error")
        try:
            once()
            found[name] = "none"
        except RuntimeError as error:
            found[name] = str(error)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found


def loading(args: argparse.Namespace) -> Result:
    """Images a second and core, as `benchmarks/loader.py`."""
    images, side, rounds = (4, 64, 1) if args.quick else (40, 1024, 3)
    return loader.measure(images, side, args.size, rounds)


def predicting(args: argparse.Namespace) -> Result:
    """Images a second of the network alone, in float32, and in bf16 with channels last; whether that was used."""
    config = NetworkConfig(args.network)
    network = build_network(config, CLASSES, args.size).to(args.device).eval()
    names = tuple(f"class {number}" for number in range(CLASSES))
    plain = Classifier(network, config, names, ImageConfig(args.size), "cross_entropy")
    images = example_batch(args)["image"]
    fast = plain._in_bf16(images)
    calls = {"fp32": lambda: plain.probabilities(images), "bf16": lambda: fast.probabilities(images)}
    rates = {name: args.batch / statistics.median(taken) for name, taken in in_turn(calls, args).items()}
    return {"images_per_s": rates, "bf16_used": fast is not plain}


PARTS = (steps, gradients, waits, loading, predicting)


def made(method: str, args: argparse.Namespace, batch: dict[str, torch.Tensor]) -> Objective:
    """An objective with bounds, in training mode, its weights the same each time."""
    torch.manual_seed(0)
    found = find_method(method)
    objective = found.objective(NetworkConfig(args.network), CLASSES, args.size, found.options()).to(args.device)
    objective.train()
    if objective.bound_estimation_epochs:
        objective.measure(batch)
        objective.finish_estimation()
    return objective


def example_batch(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Random images with square lungs."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(args.batch, 1, args.size, args.size)
    quarter = args.size // 4
    mask[..., quarter:-quarter, quarter:-quarter] = 1
    batch = {
        "image": torch.rand(mask.shape, generator=generator),
        "mask": mask,
        "has_mask": torch.ones(args.batch, dtype=torch.bool),
        "label": torch.randint(CLASSES, (args.batch,), generator=generator),
        "site": torch.zeros(args.batch, dtype=torch.int64),
    }
    return {key: value.to(args.device) for key, value in batch.items()}


def step(objective: Any, batch: dict[str, torch.Tensor], args: argparse.Namespace) -> Callable[[], None]:
    """Forward and backward pass."""

    def once() -> None:
        objective.zero_grad(set_to_none=True)
        with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"):
            loss = objective(batch)["loss"]
        loss.backward()

    return once


def in_turn(calls: dict[str, Callable[[], Any]], args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each call in each round: of the GPU between synchronisations, of the CPU those of the process."""
    clock = time.perf_counter if args.device == "cuda" else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(args.warm_up + args.rounds):
        for name, call in calls.items():
            if args.device == "cuda":
                torch.cuda.synchronize()
            start = clock()
            call()
            if args.device == "cuda":
                torch.cuda.synchronize()
            if turn >= args.warm_up:
                seconds[name].append(clock() - start)
    return seconds


def main() -> None:
    """Runs the parts, prints each as it is done and writes the JSON file where one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="a tiny network, small images, one round")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="tf32")
    parser.add_argument("--network")
    parser.add_argument("--size", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--parts", nargs="+", default=[part.__name__ for part in PARTS])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.network = args.network or ("densenet_tiny" if args.quick else "densenet121")
    args.size = args.size or (32 if args.quick else 224)
    args.batch = args.batch or (2 if args.quick else 32)
    args.rounds, args.warm_up = args.rounds or (1 if args.quick else 10), 1 if args.quick else 4
    torch.set_flush_denormal(True)
    if args.device == "cuda" and args.precision == "tf32":
        torch.set_float32_matmul_precision("high")
    card = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    result: Result = {"card": card, "torch": torch.__version__, "settings": {**vars(args), "json": None}}
    print(json.dumps(result), flush=True)
    for part in PARTS:
        if part.__name__ in args.parts:
            begun = time.perf_counter()
            try:
                result[part.__name__] = part(args)
            except Exception as error:  # one part must not cost the others, on a machine that is lent for minutes
                result[part.__name__] = {"failed": f"{type(error).__name__}: {error}"}
            print(f"\n{part.__name__}, {time.perf_counter() - begun:.0f} s")
            print(json.dumps(result[part.__name__], indent=2), flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
