import hashlib
from dataclasses import replace

import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifest
from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError, LabelMapping
from cxr_isnet.manifests.source_parsing.source import PublishedSet, Record

from .sources.files import picture

LABELS = LabelMapping({"ill": "tuberculosis", "well": "normal"})


def source_of(*records: Record) -> PublishedSet:
    return PublishedSet(
        name="made_up",
        title="a made-up set",
        layout="*.png",
        had_from="https://example.org",
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
    odd = [replace(record, image=picture(tmp_path / f"{number}.png"), findings=("odd",)) for number in range(3)]

    with pytest.raises(InputError, match=r"no image of .* is left: 3 label 'odd' has no class; 1 no patient id"):
        build_manifest(source_of(*odd, replace(record, patient_id="")), tmp_path, tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()


def test_most_images_missing_is_an_error_that_says_what_was_looked_for_where(record, tmp_path):
    (tmp_path / "images").mkdir()
    gone = [replace(record, image=tmp_path / "images" / "train" / f"{number}.png") for number in range(2)]
    table, source = tmp_path / "table.csv", source_of(record, *gone)

    with pytest.raises(InputError) as error:
        build_manifest(source, tmp_path, table)

    assert f"{tmp_path}: 2 of 3 images of a made-up set are missing. Looked for images/train/0.png" in str(error.value)
    assert f"{tmp_path}/images holds nothing. Name the folder of the whole set" in str(error.value)
    assert "give --partial true if you have a part only" in str(error.value)
    assert not table.exists()
    assert build_manifest(source, tmp_path, table, partial=True).rows == 1


def test_an_image_that_its_source_renders_lies_beside_the_table(record, tmp_path):
    (tmp_path / "set" / "deep").mkdir(parents=True)
    raw = tmp_path / "set" / "deep" / "a.IMG"
    raw.touch()
    picture(tmp_path / "set" / "b.png")
    lungs = (picture(tmp_path / "l.png", grey=255), picture(tmp_path / "r.png", grey=255))
    rendered = replace(record, image=raw, masks=lungs, render=lambda target: picture(target) and None)

    report = build_manifest(source_of(rendered, record), tmp_path / "set", tmp_path / "out" / "t.csv", checksums=True)

    row = read_manifest(tmp_path / "out" / "t.csv").iloc[1]
    assert row["image"] == str(tmp_path / "out" / "t_rendered" / "deep" / "a.IMG.png")
    assert row["mask"] == str(tmp_path / "out" / "t_masks" / "deep" / "a.IMG.png")
    assert row["sha256"] == hashlib.sha256((tmp_path / "out/t_rendered/deep/a.IMG.png").read_bytes()).hexdigest()
    assert "rendered: 1 images, in t_rendered/ beside the table" in report.summary()


def test_an_image_that_cannot_be_rendered_is_dropped_and_leaves_nothing(record, tmp_path):
    def refuse(target):
        raise DroppedError("no picture")

    odd = replace(record, image=picture(tmp_path / "b.png"), render=refuse)

    report = build_manifest(source_of(odd, record), tmp_path, tmp_path / "t.csv")

    assert report.dropped == {"no picture": 1}
    assert list((tmp_path / "t_rendered").iterdir()) == []


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


def test_a_publishers_table_is_not_replaced(record, tmp_path):
    (tmp_path / "train.csv").write_text("Path,Sex,Age\n")

    with pytest.raises(InputError, match=r"train\.csv: is there already, and is not a manifest"):
        build_manifest(source_of(record), tmp_path, tmp_path / "train.csv")

    assert (tmp_path / "train.csv").read_text() == "Path,Sex,Age\n"


def test_output_must_be_a_table(record, tmp_path):
    with pytest.raises(InputError, match=r"is no table: name a file that ends in \.csv or \.parquet"):
        build_manifest(source_of(record), tmp_path, tmp_path / "table.xlsx")


def test_a_cell_that_a_spreadsheet_would_run_is_written_as_text_and_read_back(record, tmp_path):
    formula = '=HYPERLINK("http://example.org","see")'

    build_manifest(source_of(replace(record, more={"note": formula})), tmp_path, tmp_path / "t.csv")

    assert pd.read_csv(tmp_path / "t.csv")["note"].tolist() == ["'" + formula]
    assert read_manifest(tmp_path / "t.csv")["note"].tolist() == [formula]


def test_an_own_table_with_two_spellings_of_a_class_is_refused(record, tmp_path):
    other = replace(record, image=picture(tmp_path / "b.png"), findings=("Ill",))
    source = replace(source_of(record, other), labels=LabelMapping(None))

    with pytest.raises(InputError, match=r"'label' has one name in several spellings .*'ill'.*'Ill'"):
        build_manifest(source, tmp_path, tmp_path / "t.csv")
