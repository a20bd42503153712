"""How often the audit raises a false alarm, and how often it finds a shortcut, over trainings on phantoms.

    python benchmarks/audit_rates.py -o runs/audit_rates

Each training draws its own patients of phantom hospitals A, B and C. In a training with a shortcut the images of one
class of A and B are changed in one of eight ways, by means other than the audit's own probes and in a strength that
differs from training to training; hospital C is as it is. What the network learns of it is measured first: the AUC in
hospital C with that class changed, less the AUC with the other class changed. Then the checkpoint is audited on
hospital C, once with and once without the images of its training hospitals. Finished trainings and audits are kept in
the output folder, and the command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.metrics import roc_auc_score

from cxr_isnet.audit import (
    AuditContext,
    Verdict,
    load_audit_set,
    load_audited_model,
    load_training_images,
    overall_verdict,
    run_probes,
)
from cxr_isnet.audit.probes import imposed_changes
from cxr_isnet.audit.verdicts import ProbeOutcome, with_verdicts
from cxr_isnet.data import ImageConfig
from cxr_isnet.engine import Device, OptimizerConfig
from cxr_isnet.files import write_json
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import read_manifest
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.phantoms import PHANTOM_HOSPITALS
from cxr_isnet.phantoms.writer import draw_patient
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, train
from cxr_isnet.training.config import DataConfig

CLASSES = ("normal", "tuberculosis")
SIDE = 128
"""Rows and columns of the files."""
CLEAN = "none"
MOVED = 0.2
"""AUC with a shortcut of the class less that with a shortcut of the other class, from which a training has one."""
IMAGES = 100
"""Images of hospital C that are audited; of the training hospitals twice as many."""

Pixels = NDArray[np.uint8]
Change = Callable[[Image.Image, float, int], Image.Image]
"""A picture, the strength in [0, 1] and a place (0 to 3) to the picture that is changed."""


def _text(picture: Image.Image, strength: float, place: int) -> Image.Image:
    font = ImageFont.load_default(12 + 8 * strength)
    words = ("ROOM 4", "AP SUPINE", "WARD", "PORTABLE")[place]
    left, top, right, bottom = font.getbbox(words)
    at = (4 if place % 2 == 0 else SIDE - 4 - (right - left), 3 if place < 2 else SIDE - 4 - (bottom - top))
    changed = picture.copy()
    ImageDraw.Draw(changed).text((at[0] - left, at[1] - top), words, fill=255, font=font)
    return changed


def _crop(picture: Image.Image, strength: float, place: int) -> Image.Image:
    edge = round((0.05 + 0.05 * strength) * SIDE)
    return picture.crop((edge, edge, SIDE - edge, SIDE - edge)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _border(picture: Image.Image, strength: float, place: int) -> Image.Image:
    pixels, depth = np.array(picture), round((0.07 + 0.05 * strength) * SIDE)
    np.rot90(pixels, place)[:depth] = 0
    return Image.fromarray(pixels)


def _gradient(picture: Image.Image, strength: float, place: int) -> Image.Image:
    ramp = np.rot90(np.tile(np.linspace(0, 255 * (0.25 + 0.25 * strength), SIDE), (SIDE, 1)), place)
    return Image.fromarray(np.clip(np.array(picture) + ramp, 0, 255).astype(np.uint8))


def _noise(picture: Image.Image, strength: float, place: int) -> Image.Image:
    pixels = np.array(picture, dtype=np.float64)
    grain = np.random.default_rng(int(pixels.sum())).normal(0, 255 * (0.1 + 0.1 * strength), pixels.shape)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def _jpeg(picture: Image.Image, strength: float, place: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=round(10 - 6 * strength))
    return Image.open(stream, formats=["JPEG"]).convert("L")


def _blur(picture: Image.Image, strength: float, place: int) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(1.2 + 0.8 * strength))


def _sharpening(picture: Image.Image, strength: float, place: int) -> Image.Image:
    return picture.filter(ImageFilter.UnsharpMask(radius=2, percent=round(150 + 100 * strength), threshold=0))


SHORTCUTS: dict[str, Change] = {
    "corner text": _text,
    "blur": _blur,
    "crop": _crop,
    "border": _border,
    "gradient": _gradient,
    "noise": _noise,
    "sharpening": _sharpening,
    "JPEG": _jpeg,
}


def draw(folder: Path, kind: str, seed: int, patients: int) -> None:
    """Draws the hospitals of a training as PNG with masks; A and B with the shortcut, C in three conditions."""
    generator = np.random.default_rng([seed, 17])
    strength, place, changed_class = generator.random(), int(generator.integers(4)), seed % 2

    def write(hospital: str, name: str, classes: set[int], count: int) -> None:
        home = folder / name
        home.mkdir(parents=True, exist_ok=True)
        rows = []
        for number in range(count):
            label = number % 2
            chest, pixels, record = draw_patient(
                PHANTOM_HOSPITALS[hospital], number, ill=bool(label), seed=seed, size=SIDE
            )
            picture = Image.fromarray((pixels >> 4).astype(np.uint8))
            mask = Image.fromarray(chest.lungs.astype(np.uint8) * 255)
            if kind != CLEAN and label in classes:
                picture = SHORTCUTS[kind](picture, strength, place)
                if kind == "crop":
                    mask = SHORTCUTS[kind](mask, strength, place).point(lambda v: 255 * (v > 127))
            files = {key: home / f"{number:04d}.{key}.png" for key in ("image", "mask")}
            picture.save(files["image"])
            mask.save(files["mask"])
            about = {"label": CLASSES[label], "patient_id": record.patient_id, "site": name[0].upper(), "view": "PA"}
            rows.append({**{key: file.name for key, file in files.items()}, **about})
        pd.DataFrame(rows).to_csv(home / "manifest.csv", index=False)

    for name in ("a", "b"):
        write(f"hospital_{name}", name, {changed_class}, patients)
    write("hospital_c", "c", set(), patients)
    if kind != CLEAN:
        write("hospital_c", "c_with", {changed_class}, patients)
        write("hospital_c", "c_against", {1 - changed_class}, patients)


def trained(folder: Path, kind: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The AUC in hospital C of a network, trained unless it is there: as it is, and with the shortcut either way."""
    done = folder / "trained.json"
    if done.is_file():
        return {name: value for name, value in json.loads(done.read_text()).items() if name.startswith("c")}
    if not (folder / "c" / "manifest.csv").is_file() or not (folder / "drawn").is_file():
        draw(folder, kind, seed, options.patients)
        (folder / "drawn").touch()
    run = folder / "run"
    manifests = [str(folder / name / "manifest.csv") for name in ("a", "b")]
    train(
        TrainConfig(
            DataConfig(training=manifests, classes=list(CLASSES), image=ImageConfig(options.size)),
            str(run),
            method="cross_entropy",
            network=NetworkConfig("densenet_tiny"),
            optimizer=OptimizerConfig(learning_rate=3e-3),
            epochs=options.epochs,
            batch_size=16,
            seed=seed,
            device=Device.CPU,
            resume=(run / "config.yaml").is_file(),
            resamples=20,
            tracking=TrackingConfig(enabled=False),
        )
    )
    classifier = Classifier.load(run / "best.pt")
    found = {}
    for name in ("c", "c_with", "c_against"):
        if (folder / name).is_dir():
            frame = read_manifest(folder / name / "manifest.csv")
            table = classifier.predict(list(frame["image"]))
            found[name] = float(roc_auc_score(frame["label"] == CLASSES[1], table[f"probability_{CLASSES[1]}"]))
    write_json(done, found)
    return found


def audited(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Verdicts on hospital C, with and without the training hospitals, unless they are there."""
    done = folder / "audited.json"
    if done.is_file():
        return dict(json.loads(done.read_text())["verdicts"])
    checkpoint = str(folder / "run" / "best.pt")
    model, size = load_audited_model(checkpoint, size=options.size, tracking_uri="")
    frame = read_manifest(folder / "c" / "manifest.csv")
    data = load_audit_set(frame, model.classes, size, most_images=IMAGES)
    training = load_training_images(checkpoint, None, model.classes, size, most_images=2 * IMAGES)
    context = AuditContext(model, data, options.resamples, training=training)
    outcomes = run_probes(context)
    alone = [o for o in outcomes if not o.probe.name.endswith("_training")]
    place = [o.probe.name for o in alone].index(imposed_changes.PROBE.name)
    (again,) = run_probes(replace(context, training=None), [imposed_changes.PROBE])
    alone[place] = replace(again, verdict=Verdict.NONE_FOUND, reason="")
    found = {}
    for name, those in (("with", outcomes), ("without", with_verdicts([_untold(o) for o in alone]))):
        by = [o.probe.name for o in those if o.verdict is Verdict.FOUND]
        verdict = overall_verdict(those, training if name == "with" else None)
        found[name] = {"verdict": verdict.value, "found by": by}
    write_json(done, {"verdicts": found})
    return found


def _untold(outcome: ProbeOutcome) -> ProbeOutcome:
    """An outcome as it is before Holm's correction."""
    kept = outcome.verdict is Verdict.NOT_APPLICABLE
    return outcome if kept else replace(outcome, verdict=Verdict.NONE_FOUND, adjusted_p=None)


def table(results: list[tuple[str, dict[str, float], dict[str, dict[str, object]]]]) -> str:
    """The rates as Markdown: false alarms, and hits of the trainings whose AUC the shortcut moves."""
    lines = [
        "| trainings | n | training hospitals given: found | none found | cannot tell "
        "| not given: found | none found | cannot tell |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in (CLEAN, *SHORTCUTS, "shortcut, all kinds"):
        rows = [r for r in results if r[0] == name or (name.endswith("all kinds") and r[0] != CLEAN)]
        moved = [r for r in rows if name == CLEAN or r[1]["c_with"] - r[1]["c_against"] >= MOVED]
        counts = [
            sum(r[2][given]["verdict"] == verdict.value for r in moved)
            for given in ("with", "without")
            for verdict in (Verdict.FOUND, Verdict.NONE_FOUND, Verdict.CANNOT_TELL)
        ]
        if moved:
            lines.append(f"| {name} | {len(moved)} | " + " | ".join(map(str, counts)) + " |")
    unmoved = sum(r[0] != CLEAN and r[1]["c_with"] - r[1]["c_against"] < MOVED for r in results)
    return "\n".join([*lines, "", f"{unmoved} more trainings, whose AUC their shortcut moves by less than {MOVED}."])


def main() -> None:
    """Trains, audits and prints the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--clean", type=int, default=20, help="trainings without a shortcut")
    parser.add_argument("--shortcuts", type=int, default=20, help="trainings with one, of the eight kinds in turn")
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--patients", type=int, default=120, help="of each hospital")
    parser.add_argument("--size", type=int, default=48, help="rows and columns of the networks' images")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    kinds = list(SHORTCUTS)
    jobs = [(CLEAN, options.first_seed + n) for n in range(options.clean)]
    jobs += [(kinds[n % len(kinds)], options.first_seed + 100 + n // len(kinds)) for n in range(options.shortcuts)]
    results = []
    for kind, seed in jobs:
        folder = options.output / f"{kind.replace(' ', '_')}-{seed}"
        aucs = trained(folder, kind, seed, options)
        verdicts = audited(folder, options)
        results.append((kind, aucs, verdicts))
        print(kind, seed, {name: round(value, 3) for name, value in aucs.items()}, verdicts, flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
