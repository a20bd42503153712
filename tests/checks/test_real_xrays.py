"""What the checks find, and how often they are wrong, on real X-rays."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image, ImageDraw
from pydicom.data import get_testdata_file

from cxr_isnet.checks import scan_manifests
from cxr_isnet.checks.frontal import MAX_OUTLIER_SCORE, frontal_outlier_score
from cxr_isnet.checks.records import image_record
from cxr_isnet.checks.same_image import find_same_images
from cxr_isnet.commands.manifest import CheckConfig, check
from cxr_isnet.imaging import FRONTAL_ABOVE, downsample, frontal_score, read_image

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

PROJECT = Path(__file__).resolve().parents[2]
COVID = ("covid_ieee8023", "covid_nih", "covid_actualmed")
TB = ("tb_shenzhen", "tb_montgomery")
ORIGINALS, COPIES = 1000, 200


@pytest.fixture
def mappings(published_sets):
    """Column mappings of this project by name."""
    return lambda names: [str(PROJECT / f"data_manifests/{name}.yaml") for name in names]


@pytest.fixture(scope="module")
def images(real_data_folder) -> list[Path]:
    return [real_data_folder / path for path in pd.read_csv(real_data_folder / "manifest.csv")["path"]]


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    small = np.asarray(Image.fromarray(pixels.astype(np.float32)).resize((128, 128), Image.Resampling.BOX))
    low, high = np.percentile(small, (0.5, 99.5))
    return np.clip((small - low) / (high - low), 0, 1)


def findings(tmp_path: Path, tables: list[str]) -> list[dict]:
    check(CheckConfig(tables, json=str(tmp_path / "check.json"), workers=2))
    return json.loads((tmp_path / "check.json").read_text())["findings"]


def test_covid_sources(mappings, tmp_path):
    found = findings(tmp_path, mappings(COVID[:2]))

    site = next(one for one in found if one["column"] == "site" and one["contingency"])
    assert site["severity"] == "warning"
    assert site["contingency"]["cramers_v"] > 0.5
    pairs = [{Path(image).stem for image in one["images"]} for one in found if one["check"] == "duplicates"]
    assert {"16660_3_1", "covid-19-rapidly-progressive-acute-respiratory-distress-syndrome-ards-day-1"} in pairs
    assert {"00002658_001", "00002658_002"} in pairs
    assert {"7-fatal-covid19", "2-chest-filmc"} in pairs


def test_nih_has_18_patients_of_both_classes_without_the_contradicted_labels(mappings, tmp_path):
    (note,) = [one for one in findings(tmp_path, mappings(COVID[1:2])) if one["check"] == "patients"]

    assert note["message"].startswith("18 patients")


def test_tuberculosis_sources_have_two_films_in_two_crops_and_no_other_errors(mappings, tmp_path):
    """Seen by eye: Montgomery's images 254 and 255, and 89 and 90, are one film each, cropped twice."""
    found = findings(tmp_path, mappings(TB))

    errors = [one for one in found if one["severity"] == "error"]
    assert {one["check"] for one in errors} == {"duplicates"}
    films = [sorted(re.findall(r"images/MCUCXR_(\d{4})", one["message"])) for one in errors]
    assert ["0089", "0090"] in films
    assert all(film in (["0089", "0090"], ["0254", "0255"]) for film in films)
    assert {one["check"] for one in found if one["severity"] == "warning"} <= {"masks", "views"}


def test_controls_reach_what_they_are_known_to_reach(mappings, tmp_path):
    """Values of an independent fit of the same controls, as README.md of the data folder has them."""
    found = [one for one in findings(tmp_path, mappings(TB)) if one["check"] == "controls"]
    auc = {
        (one["control"], one["moved_to"][-18:]): one["auc"]["estimate"]
        for finding in found
        for one in finding["controls"]
        if "tb_shenzhen" in finding["message"]
    }

    assert auc["thumbnail", ""] == pytest.approx(0.88, abs=0.02)
    assert auc["border", ""] == pytest.approx(0.86, abs=0.02)
    assert auc["mask_shape", ""] == pytest.approx(0.77, abs=0.02)
    assert auc["thumbnail", "tb_montgomery.yaml"] == pytest.approx(0.52, abs=0.02)


def changed(path: Path, generator: np.random.Generator, kind: str) -> Image.Image:
    """The X-ray with one change that hides a copy, exposed otherwise and compressed as JPEG."""
    picture = Image.open(path).convert("L")
    size = np.array(picture.size)
    if kind == "crop":
        share = generator.uniform(0.6, 0.95, 2)
        corner = generator.uniform(0, 1 - share)
        picture = picture.crop([int(edge) for edge in (*(corner * size), *((corner + share) * size))])
    elif kind == "turn":
        picture = picture.rotate(generator.uniform(-8, 8), resample=Image.Resampling.BICUBIC)
    elif kind == "mirror":
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    elif kind == "caption":
        left, top = (generator.uniform(0, 1 - np.array([0.32, 0.1])) * size).astype(int)
        draw = ImageDraw.Draw(picture)
        shade = int(generator.choice([0, 255]))
        draw.rectangle((left, top, left + 0.32 * size[0], top + 0.1 * size[1]), fill=shade)
        draw.text((left + 3, top + 3), "48 hours", fill=255 - shade)
    picture = picture.resize([max(48, int(side * generator.uniform(0.6, 1.2))) for side in picture.size])
    exposed = np.clip(generator.uniform(0.8, 1.1) * (np.asarray(picture) / 255) ** generator.uniform(0.7, 1.4), 0, 1)
    buffer = io.BytesIO()
    Image.fromarray((255 * exposed).astype(np.uint8)).save(buffer, "JPEG", quality=int(generator.integers(50, 90)))
    return Image.open(buffer)


def test_hidden_copies_of_real_xrays_are_found_and_nothing_else(images, tmp_path, capsys):
    generator = np.random.default_rng(0)
    chosen = [images[index] for index in generator.choice(len(images), ORIGINALS, replace=False)]
    sources = generator.choice(ORIGINALS, COPIES, replace=False)
    kinds = np.array(["crop", "turn", "mirror", "caption"])[np.arange(COPIES) % 4]
    copies = []
    for number, (source, kind) in enumerate(zip(sources, kinds, strict=True)):
        copies.append(tmp_path / f"{number}.jpg")
        changed(chosen[source], generator, str(kind)).save(copies[-1], quality=95)
    records = [image_record(str(path)) for path in [*chosen, *copies]]

    found = find_same_images([one.local for one in records], [one.thumbnail for one in records])

    pairs = {(min(one.part, one.whole), max(one.part, one.whole)) for one in found}
    true = {(int(source), ORIGINALS + number) for number, source in enumerate(sources)}
    twins = {pair for pair in pairs if max(pair) < ORIGINALS}
    same = {one: {other for pair in twins if one in pair for other in pair} | {one} for one in range(ORIGINALS)}
    false = {
        (one, copy)
        for one, copy in pairs - true - twins
        if one >= ORIGINALS or sources[copy - ORIGINALS] not in same[one]
    }
    missed = [str(kinds[copy - ORIGINALS]) for _, copy in sorted(true - pairs)]
    named = [(chosen[one].name, chosen[other].name) for one, other in sorted(twins)]
    with capsys.disabled():
        print(f"\nfound {len(pairs & true)} of {COPIES} copies, missed {missed}, {len(false)} false; originals {named}")
    assert len(pairs & true) >= 0.95 * COPIES
    assert len(false) <= ORIGINALS // 1000


def test_views_flag_few_real_chests_and_most_else(images, real_data_folder, capsys):
    chests = np.stack([thumbnail(read_image(path)) for path in images])
    sites = ["nih" if path.parts[-3].startswith("nih") else path.parts[-3] for path in images]
    limbs = [real_data_folder / f"dicom/{name}.dcm" for name in ("RG2_JPLL", "RG3_RLE")]
    sections = [Path(get_testdata_file(name)) for name in ("CT_small.dcm", "MR_small.dcm", "693_J2KI.dcm")]
    others = {
        "limbs": np.stack([thumbnail(stored(path)) for path in limbs]),
        "sections": np.stack([thumbnail(stored(path)) for path in sections]),
        "turned": np.rot90(chests[::60], axes=(1, 2)),
        "upside down": chests[::60, ::-1],
        "inverted": 1 - chests[::60],
    }

    outliers = frontal_outlier_score(chests, sites) > MAX_OUTLIER_SCORE
    flagged = outliers | unlike(chests)
    rates = {}
    for name, pictures in others.items():
        mixed = np.concatenate([chests, pictures])
        scores = frontal_outlier_score(mixed, sites + [sites[0]] * len(pictures))[len(chests) :]
        rates[name] = float(np.mean((scores > MAX_OUTLIER_SCORE) | unlike(pictures)))

    with capsys.disabled():
        print(f"\nreal chests flagged {flagged.sum()} of {len(flagged)}; found {rates}")
    adults = np.array(sites) != "guangzhou_paediatric"
    assert flagged[adults].mean() < 0.01
    assert min(rates[name] for name in ("limbs", "inverted")) > 0.8
    assert min(rates[name] for name in ("turned", "upside down")) > 0.95


def unlike(pictures: np.ndarray) -> np.ndarray:
    """Whether pictures look unlike an upright frontal chest."""
    return np.array([frontal_score(downsample(picture)) < FRONTAL_ABOVE for picture in pictures])


def stored(path: Path) -> np.ndarray:
    """Pixels of a DICOM file of any kind, bright is dense."""
    header = pydicom.dcmread(path)
    pixels = header.pixel_array.astype(np.float32)
    return -pixels if header.PhotometricInterpretation == "MONOCHROME1" else pixels


def test_the_scan_reads_every_real_image(mappings):
    scan = scan_manifests(mappings([*TB, *COVID]), workers=2)

    assert all(record.problem == "" for record in scan.images.values())
    assert all(record.problem == "" for record in scan.masks.values())
