"""Writing a phantom hospital: DICOM X-rays, lung masks and a manifest, for demonstration and tests."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from cxr_isnet.errors import InputError
from cxr_isnet.phantoms.anatomy import Chest, draw_chest
from cxr_isnet.phantoms.dicom import PhantomRecord, write_dicom
from cxr_isnet.phantoms.hospitals import BITS, PHANTOM_HOSPITALS, PhantomHospital, expose
from cxr_isnet.tables import write_table

logger = logging.getLogger(__name__)

MIN_SIZE = 64


def write_hospital(
    folder: str | Path,
    hospital: PhantomHospital,
    *,
    patients: int,
    classes: Sequence[str] = ("normal", "tuberculosis"),
    seed: int = 0,
    size: int = 256,
) -> Path:
    """Writes the patients of one hospital, one image each, of alternating classes.

    Equal arguments give equal files. A patient's anatomy depends on the hospital's name, the seed and its number only.

    Args:
        folder: folder of `images/`, `masks/` and `manifest.csv`; created if missing.
        hospital: its imaging characteristics.
        patients: number of patients, each with one image.
        classes: label of the healthy and label of the ill.
        seed: of the random generators, at least 0.
        size: rows and columns, in pixels, at least 64.

    Returns:
        Path of the manifest.

    Raises:
        InputError: not two classes, too few patients, too small images, or a folder that holds a manifest already.
    """
    folder = Path(folder)
    if len(classes) != 2 or patients < 1 or size < MIN_SIZE:
        raise InputError(
            f"phantoms were asked for {len(classes)} classes, {patients} patients, {size} pixels; "
            f"give 2 classes (healthy, ill), at least 1 patient and {MIN_SIZE} pixels"
        )
    manifest = folder / "manifest.csv"
    if manifest.exists():
        raise InputError(f"{manifest}: exists already. Give an empty folder, or remove it")
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    numbers = tqdm(range(patients), desc=f"draw {hospital.name}", unit="image", disable=None)
    rows = [_write_patient(folder, hospital, number, classes, seed, size) for number in numbers]
    write_table(pd.DataFrame(rows), manifest)
    logger.info("drew %d phantom X-rays of %s in %s", patients, hospital.name, folder)
    return manifest


def write_study(folder: str | Path, *, patients: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Writes the phantom hospitals of a study, each in a folder of its name; one that is there is kept.

    Args:
        folder: holds the hospitals' folders.
        patients: number of patients of each hospital.
        seed: of the random generators, at least 0.

    Returns:
        The manifests of the hospitals to train on, and of the one that training does not see: the last.

    Raises:
        InputError: too few patients.
    """
    manifests = []
    for name, hospital in PHANTOM_HOSPITALS.items():
        manifest = Path(folder) / name / "manifest.csv"
        if not manifest.is_file():
            logger.info("drawing %s", hospital.name)
            write_hospital(manifest.parent, hospital, patients=patients, seed=seed)
        manifests.append(str(manifest))
    return manifests[:-1], manifests[-1:]


def draw_patient(
    hospital: PhantomHospital, number: int, *, ill: bool, seed: int, size: int
) -> tuple[Chest, np.ndarray[tuple[int, int], np.dtype[np.uint16]], PhantomRecord]:
    """Draws and images one patient.

    Args:
        hospital: its imaging characteristics.
        number: of the patient, from 0.
        ill: whether the lungs have opacities.
        seed: of the random generator, at least 0.
        size: rows and columns, in pixels.

    Returns:
        The chest; the image, (size, size) uint16 from 0 to 4095, bright is dense; the header values.
    """
    generator = np.random.default_rng([seed, number, *hospital.name.encode()])
    chest = draw_chest(size, ill, generator)
    pixels = expose(chest, hospital, generator)
    record = PhantomRecord(
        patient_id=f"PHANTOM-{_file_name(hospital.name)}-{seed}-{number:05d}",
        site=hospital.name,
        sex=str(generator.choice(["F", "M"])),
        age=int(generator.integers(18, 90)),
        seed=seed,
        monochrome1=hospital.monochrome1,
    )
    return chest, pixels, record


def _write_patient(
    folder: Path, hospital: PhantomHospital, number: int, classes: Sequence[str], seed: int, size: int
) -> dict[str, str | int]:
    ill = number % 2
    chest, pixels, record = draw_patient(hospital, number, ill=bool(ill), seed=seed, size=size)
    image, mask = f"images/{record.patient_id}.dcm", f"masks/{record.patient_id}.png"
    write_dicom(folder / image, pixels, record, BITS)
    Image.fromarray(chest.lungs.astype(np.uint8) * 255).save(folder / mask, compress_level=1)
    return {
        "image": image,
        "mask": mask,
        "label": classes[ill],
        "patient_id": record.patient_id,
        "site": record.site,
        "view": "PA",
        "sex": record.sex,
        "age": record.age,
        "licence": "drawn by cxr-isnet; no rights reserved",
    }


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "site"
