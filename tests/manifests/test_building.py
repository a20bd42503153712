import hashlib
from dataclasses import replace

import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifest
from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.source import PublishedSet, Record

from .sources.files import picture

LABELS = LabelMapping({"ill": "tuberculosis", "well": "normal"})


def source_of(*records: Record) -> PublishedSet:
    return PublishedSet(
        name="made_up",
        title="a made-up set",
        layout="*.png",
        expects=("*.png",),
        labels=LABELS,
        licence="CC0",
        citation="nobody",
        read=lambda root: records,
        keeps_unknown_view=True,
    )


@pytest.fixture
def record(tmp_path):
    return Record(picture(tmp_path / "a.png"), ("ill",), "p1", "Alder", age=40.0)


def test_a_missing_file_is_dropped_and_counted(record, tmp_path):
    gone = replace(record, image=tmp_path / "gone.png")

    report = build_manifest(source_of(record, gone), tmp_path, tmp_path / "table.csv")

    assert (report.rows, report.dropped) == (1, {"image file is missing": 1})


def test_nothing_left_is_an_error_with_the_reasons(record, tmp_path):
    gone = [replace(record, image=tmp_path / f"{number}.png") for number in range(3)]

    with pytest.raises(InputError, match=r"no image of .* is left: 3 image file is missing; 1 no patient id"):
        build_manifest(source_of(*gone, replace(record, patient_id="")), tmp_path, tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()


def test_an_image_listed_twice_has_one_row_and_with_two_classes_none(record, tmp_path):
    other = replace(record, image=picture(tmp_path / "b.png"))

    report = build_manifest(
        source_of(record, record, other, replace(other, findings=("well",))), tmp_path, tmp_path / "table.csv"
    )

    assert report.labels == {"tuberculosis": 1}
    assert report.dropped == {"listed again": 2, "listed with several classes": 1}


def test_an_impossible_age_is_left_empty_and_counted(record, tmp_path):
    report = build_manifest(source_of(replace(record, age=411.0)), tmp_path, tmp_path / "table.csv")

    assert report.notes == {"age is not from 0 to 120": 1}
    assert read_manifest(tmp_path / "table.csv")["age"].isna().all()
    assert "left empty: 1" in report.summary()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_both_kinds_of_table_hold_the_same(record, tmp_path, suffix):
    picture(tmp_path / "b.png")
    other = replace(record, image=tmp_path / "b.png", age=None, more={"score": "3"})

    build_manifest(source_of(other, record), tmp_path, tmp_path / "deep" / f"table{suffix}", checksums=True)

    frame = read_manifest(tmp_path / "deep" / f"table{suffix}")
    assert frame["image"].tolist() == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert frame["age"].tolist() == [40, pytest.approx(float("nan"), nan_ok=True)]
    assert frame["score"].tolist() == ["", "3"]
    assert frame["sha256"][0] == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()


def test_a_made_mask_stays_inside_its_folder(record, tmp_path):
    halves = tuple(picture(tmp_path / f"{side}.png", grey=255) for side in ("left", "right"))
    (tmp_path / "set").mkdir()
    picture(tmp_path / "set" / "x.png")

    build_manifest(source_of(replace(record, masks=halves)), tmp_path / "set", tmp_path / "out" / "table.csv")

    mask = pd.read_csv(tmp_path / "out" / "table.csv")["mask"].tolist()
    assert mask == ["table_masks/a.png"]


def test_the_table_is_whole_or_not_there(record, tmp_path):
    table = tmp_path / "table.csv"
    build_manifest(source_of(record), tmp_path, table)
    before = table.read_text()
    odd = replace(record, more={"split": "training"})

    with pytest.raises(InputError, match="column 'split' is none of train, val, test"):
        build_manifest(source_of(odd), tmp_path, table)

    assert table.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "table.csv"]


def test_a_folder_that_is_gone_is_named_also_where_the_table_exists(record, tmp_path):
    build_manifest(source_of(record), tmp_path, tmp_path / "table.csv")

    with pytest.raises(InputError, match="gone: there is no such folder"):
        build_manifest(source_of(record), tmp_path / "gone", tmp_path / "table.csv")


def test_output_must_be_a_table(record, tmp_path):
    with pytest.raises(InputError, match=r"is no table: name a file that ends in \.csv or \.parquet"):
        build_manifest(source_of(record), tmp_path, tmp_path / "table.xlsx")
