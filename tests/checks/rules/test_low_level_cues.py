import numpy as np
import pandas as pd

from cxr_isnet.checks import ManifestScan
from cxr_isnet.checks.records import ImageRecord
from cxr_isnet.checks.rules import low_level_cues
from cxr_isnet.checks.rules.low_level_cues import find
from cxr_isnet.manifests import Place

PATIENTS = 40


def scan_of(signals: dict[str, float], labels: tuple[str, ...] = ("ill", "normal"), external=()) -> ManifestScan:
    """A scan of made-up images; in a table's images the border tells the label by so much."""
    frames, images = [], {}
    for number, (table, signal) in enumerate(signals.items()):
        generator = np.random.default_rng(number)
        frame = pd.DataFrame({"image": [f"{table}/{n}.png" for n in range(PATIENTS)], "mask": "", "site": table})
        frame["patient_id"] = [f"P{n // 2}" for n in range(PATIENTS)]
        frame["label"] = [labels[(n // 2) % len(labels)] for n in range(PATIENTS)]
        for image, label in zip(frame["image"], frame["label"], strict=True):
            features = generator.normal(size=261).astype(np.float32)
            features[:16] += signal * (label == "ill")
            images[image] = ImageRecord(image, sha256=image, shape=(9, 9), features=features)
        frames.append(frame.set_axis(pd.Index([Place(table, n + 1) for n in range(PATIENTS)], dtype=object)))
    return ManifestScan(tuple(signals), pd.concat(frames), images, {}, external=tuple(external))


def scores(finding):
    return {(one.control, one.moved_to): one.auc.estimate for one in finding.controls}


def test_each_table_is_learned_from_and_moved_to_each_other():
    first, second = find(scan_of({"a.csv": 3.0, "b.csv": -3.0}))

    assert scores(first).keys() == {("thumbnail", ""), ("thumbnail", "b.csv"), ("border", ""), ("border", "b.csv")}
    assert scores(first)["border", ""] > 0.95
    assert scores(first)["border", "b.csv"] < 0.05
    assert second.message.startswith("b.csv: AUC of telling ill, normal")


def test_all_tables_but_the_external_ones_are_learned_from_together():
    (finding,) = find(scan_of({"a.csv": 3.0, "b.csv": 3.0, "c.csv": -3.0}, external=["c.csv"]))

    assert finding.message.startswith("a.csv + b.csv:")
    assert finding.controls[0].n_images == 2 * PATIENTS
    assert {moved for _, moved in scores(finding)} == {"", "c.csv"}


def test_tables_of_one_label_each_are_learned_from_together():
    scan = scan_of({"a.csv": 3.0, "b.csv": 3.0})
    scan.frame["label"] = ["ill" if place.table == "a.csv" else "normal" for place in scan.frame.index]

    (finding,) = find(scan)

    assert finding.message.startswith("a.csv + b.csv:")


def test_a_label_of_too_few_patients_is_left_out():
    assert list(find(scan_of({"a.csv": 3.0}, labels=("ill",) * 8 + ("normal",)))) == []


def test_an_image_that_cannot_be_read_does_not_count():
    scan = scan_of({"a.csv": 3.0})
    first = next(iter(scan.images))
    scan.images[first] = ImageRecord(first, problem="broken")

    (finding,) = find(scan)

    assert finding.controls[0].n_images == PATIENTS - 1


def test_of_many_images_whole_patients_are_drawn(monkeypatch):
    monkeypatch.setattr(low_level_cues, "MAX_IMAGES", 30)

    (finding,) = find(scan_of({"a.csv": 3.0}))

    assert finding.controls[0].n_images == 30


def test_the_interval_is_over_patients():
    (finding,) = find(scan_of({"a.csv": 0.5}))

    auc = finding.controls[0].auc
    assert auc.low < auc.estimate < auc.high
