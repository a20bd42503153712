import numpy as np
import pandas as pd
import pytest

from cxr_isnet.checks import ManifestScan, Severity
from cxr_isnet.checks.findings import Finding
from cxr_isnet.checks.records import ImageRecord
from cxr_isnet.checks.rules.confounding import find
from cxr_isnet.manifests import Place

COUNT = 80


def scan_of_table(frame: pd.DataFrame, shapes: list[tuple[int, int]] | None = None) -> ManifestScan:
    """A scan whose images need no files."""
    shapes = shapes or [(100, 100)] * len(frame)
    images = {path: ImageRecord(path, shape=shape) for path, shape in zip(frame["image"], shapes, strict=True)}
    places = pd.Index([Place("table.csv", row + 1) for row in range(len(frame))], dtype=object)
    return ManifestScan(("table.csv",), frame.set_axis(places), images, {})


@pytest.fixture
def balanced() -> pd.DataFrame:
    """Eighty patients, labels and sites independent of each other."""
    numbers = np.arange(COUNT)
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in numbers],
            "mask": "",
            "label": np.where(numbers % 2, "ill", "normal"),
            "patient_id": [f"P{number}" for number in numbers],
            "site": np.where(numbers % 4 < 2, "Alder", "Birch"),
        }
    )


def by_property(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.column: finding for finding in findings}


def test_a_balanced_table_has_no_warning(balanced):
    found = by_property(list(find(scan_of_table(balanced))))

    assert {finding.severity for finding in found.values()} == {Severity.INFO}
    assert found["site"].contingency.counts == ((20, 20), (20, 20))
    assert found["site"].contingency.cramers_v == 0


def test_a_class_that_comes_from_one_hospital_is_a_warning_with_its_counts(balanced):
    balanced["site"] = np.where(balanced["label"] == "ill", "Alder", balanced["site"])

    finding = by_property(list(find(scan_of_table(balanced))))["site"]

    assert finding.severity is Severity.WARNING
    assert finding.contingency.values == ("Alder", "Birch")
    assert finding.contingency.labels == ("ill", "normal")
    assert finding.contingency.counts == ((40, 20), (0, 20))
    assert finding.contingency.p_value <= 0.001
    assert "100% of 'ill' have 'Alder'" in finding.message
    assert "right for 75% of patients, without it for 50%" in finding.message


@pytest.mark.parametrize(
    ("column", "confounded"),
    [
        ("sex", ["F", "M"]),
        ("view", ["PA", ""]),
        ("device", ["Alpha", "Beta"]),
        ("age", [25.0, 70.0]),
    ],
)
def test_any_column_that_gives_the_label_away_is_a_warning(balanced, column, confounded):
    balanced[column] = np.where(balanced["label"] == "ill", *np.array(confounded, dtype=object))
    if column == "age":
        balanced["age"] = balanced["age"].astype(float)

    found = by_property(list(find(scan_of_table(balanced))))

    assert found["age band" if column == "age" else column].severity is Severity.WARNING


def test_the_kind_of_file_and_its_shape_and_the_mask_are_looked_at(balanced):
    ill = balanced["label"] == "ill"
    balanced["image"] = [f"{n}.{'jpg' if is_ill else 'png'}" for n, is_ill in enumerate(ill)]
    balanced["mask"] = np.where(ill, "m.png", "")

    found = by_property(list(find(scan_of_table(balanced, [(512, 400) if is_ill else (100, 100) for is_ill in ill]))))

    assert {name for name, one in found.items() if one.severity is Severity.WARNING} == {"file type", "shape", "mask"}
    assert "is not penalised" in found["mask"].message


def test_patients_are_counted_not_images(balanced):
    again = pd.concat([balanced.assign(image=balanced["image"] + str(copy)) for copy in range(5)], ignore_index=True)

    once, often = (by_property(list(find(scan_of_table(table))))["site"].contingency for table in (balanced, again))

    assert once == often


def test_one_label_has_nothing_to_stand_against(balanced):
    assert list(find(scan_of_table(balanced.assign(label="ill")))) == []


def test_columns_that_name_each_image_are_left_out(balanced):
    many = pd.concat([balanced] * 3, ignore_index=True).assign(
        image=[f"{n}.png" for n in range(3 * COUNT)], number=[str(n) for n in range(3 * COUNT)]
    )

    assert "number" not in by_property(list(find(scan_of_table(many))))
