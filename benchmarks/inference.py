"""Time to predict an image by each method, as a ratio to the plain network, in one run.

    python benchmarks/inference.py --size 224 --batch 8 --rounds 7

CPU seconds of the process; the methods take turns, so that what else the machine does falls on all alike. An ISNet
predicts with the plain network and should cost the same; a method that segments the lungs first costs its segmenter
besides: in `two_stage` that of the recipe segmentation/public, in `two_stage_as_published` one with as many feature
maps as the study's U-Net, 64 to 1024.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from cxr_isnet.networks import NetworkConfig, SegmenterConfig
from cxr_isnet.objectives import Method, find_method
from cxr_isnet.segmentation import SegmentTrainConfig
from cxr_isnet.shipped import locate
from cxr_isnet.training.initialisation import read_config

PLAIN = "cross_entropy"
PUBLISHED = "two_stage_as_published"
METHODS = (PLAIN, "isnet", "isnet_dual", "two_stage", PUBLISHED)
SEGMENTER = "segmentation/public"
WARM_UP = 2


def main() -> None:
    """Measures, prints a row per method and writes the JSON file where one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--network", default="densenet121", help="of the methods whose own network this is")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    predictors = {}
    for name in dict.fromkeys([PLAIN, *args.methods]):
        method, options = _method(name, args.size)
        network = args.network if method.network == "densenet121" else method.network
        torch.manual_seed(0)
        predictor = method.build_predictor(NetworkConfig(network), 2, args.size, options)
        predictors[name] = predictor.eval()
    images = torch.rand(args.batch, 1, args.size, args.size, generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    with torch.no_grad():
        for turn in range(WARM_UP + args.rounds):
            for name, predictor in predictors.items():
                start = time.process_time()
                predictor(images)
                if turn >= WARM_UP:
                    seconds[name].append(time.process_time() - start)
    plain = seconds[PLAIN]
    rows = {}
    print(f"{'method':<26} {'ms per image':>12} {'x plain':>8}   range of the rounds")
    for name, found in seconds.items():
        ratios = [mine / other for mine, other in zip(found, plain, strict=True)]
        ms = 1000 * statistics.median(found) / args.batch
        rows[name] = {"ms_per_image": ms, "ratio": statistics.median(ratios), "ratios": ratios}
        print(f"{name:<26} {ms:>12.1f} {statistics.median(ratios):>8.3f}   {min(ratios):.3f}-{max(ratios):.3f}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


def _method(name: str, size: int) -> tuple[Method, Any]:
    """The method of a row, and its options."""
    method = find_method("two_stage" if name == PUBLISHED else name)
    options: dict[str, Any] = {}
    if name == PUBLISHED:
        options = {"segmenter_network": SegmenterConfig((64, 128, 256, 512, 1024)), "segmenter_size": size}
    elif method.frozen == "segmenter":
        recipe = read_config(locate(SEGMENTER), SegmentTrainConfig)
        options = {"segmenter_network": recipe.network, "segmenter_size": recipe.image.size}
    return method, method.options(**options)


if __name__ == "__main__":
    main()
