"""Where a set's own spelling or habits would mislead a plain reader."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifests
from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.source_parsing.nlm_readings import parse_clinical_reading, parse_name
from cxr_isnet.manifests.sources import find_source

from .files import dicom
from .miniature import MINIATURES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("male 45yrs\nnormal", ("M", 45)),
        ("female, 28yrs\nright PTB", ("F", 28)),
        ("femal 32yrs", ("F", 32)),
        ("Male  18 yrs\nTB of the left lung 3 months ago", ("M", 18)),
        ("male 24month\nnormal", ("M", 2)),
        ("Patient's Sex: F \nPatient's Age: 027Y\nnormal", ("F", 27)),
        ("Patient's Sex: M\nPatient's Age: 000Y\nnormal", ("M", 0)),
        ("normal", ("", None)),
    ],
)
def test_clinical_readings_of_the_tuberculosis_sets(text, expected):
    assert parse_clinical_reading(text) == expected


def test_a_foreign_file_among_the_tuberculosis_images_is_named():
    with pytest.raises(InputError, match=r"Thumbs\.png: the name is not like"):
        parse_name(Path("Thumbs.png"))


def test_shenzhen_has_sex_and_age_and_finds_masks_where_they_were_unpacked(built):
    row = built("shenzhen").row("CHNCXR_0327_1.png")

    assert (row["patient_id"], row["sex"], row["age"]) == ("CHNCXR_0327", "F", 32)
    assert row["mask"].endswith("mask/mask/CHNCXR_0327_1_mask.png")
    assert built("shenzhen").row("CHNCXR_0026_0.png")["age"] == pytest.approx(16 / 12, abs=0.01)


def test_montgomery_unites_both_lungs_and_takes_no_half(built):
    whole, half = (built("montgomery").row(f"MCUCXR_{name}.png") for name in ("0001_0", "0104_1"))

    assert np.asarray(Image.open(whole["mask"]))[0].tolist() == [255, 255, 0, 0, 255, 255]
    assert half["mask"] == ""
    assert built("montgomery").report.notes == {"mask file is missing": 1}


def test_tbx11k_reads_the_kind_of_tuberculosis_from_the_boxes(built):
    frame = built("tbx11k").frame.set_index("patient_id")

    assert frame.loc["tb0135", "label"] == "tuberculosis"
    assert not {"tb0005", "tb1199", "s0001"} & set(frame.index)
    assert frame.loc["h0002", "official_split"] == "val"


def test_tbx11k_with_broken_annotations_names_the_file(tmp_path):
    MINIATURES["tbx11k"].make(tmp_path)
    (tmp_path / "TBX11K/annotations/json/TBX11K_val.json").write_text(json.dumps({"images": [{"id": 1}]}))

    with pytest.raises(InputError, match=r"TBX11K_val\.json: not a COCO annotation file: KeyError"):
        build_manifest(find_source("tbx11k"), tmp_path, tmp_path / "table.csv")


def test_tb_portals_takes_the_table_of_images_not_of_archives(built):
    frame = built("tb_portals").frame

    assert sorted(frame["site"]) == ["TB Portals, Moldova", "TB Portals, Moldova", "TB Portals, Romania"]
    assert sorted(frame["sex"]) == ["F", "F", "M"]
    assert sorted(frame["age"]) == [41, 41, 60]


def test_nih_patients_are_the_first_eight_digits_of_the_name(built):
    row = built("nih_chestxray14").row("00000001_001.png")

    assert (row["patient_id"], row["label"], row["view"], row["sex"], row["age"]) == (
        "nih-00000001",
        "other_pneumonia",
        "AP",
        "M",
        59,
    )
    assert built("nih_chestxray14").report.notes == {"age is not from 0 to 120": 1}
    assert built("nih_chestxray14").row("00000003_000.png")["official_split"] == "test"


def test_nih_later_release_calls_gender_sex(tmp_path):
    MINIATURES["nih_chestxray14"].make(tmp_path)
    old = tmp_path / "Data_Entry_2017.csv"
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(old.read_text().replace("Patient Gender", "Patient Sex"))
    old.unlink()

    build_manifest(find_source("nih_chestxray14"), tmp_path, tmp_path / "table.csv")

    assert set(read_manifests([tmp_path / "table.csv"])["sex"]) == {"M", "F"}


def test_chexpert_devices_do_not_spoil_a_normal_and_uncertain_edema_no_pneumonia(built):
    frame = built("chexpert").frame

    assert [Path(image).parts[-3:-1] for image in frame["image"]] == [
        ("patient00001", "study1"),
        ("patient00002", "study1"),
        ("patient64541", "study1"),
    ]
    assert frame["label"].tolist() == ["normal", "other_pneumonia", "other_pneumonia"]
    assert frame["official_split"].tolist() == ["train", "train", "valid"]


def test_mimic_labels_are_per_study_and_views_per_image(built):
    frame = built("mimic_cxr_jpg").frame

    assert [Path(image).stem for image in frame["image"]] == ["02aa804e", "2a2277a9"]
    assert frame["view"].tolist() == ["PA", "AP"]
    assert frame["patient_id"].tolist() == ["10000032", "10000764"]


def test_padchest_reads_lists_and_years_of_birth(built):
    rows = {name: built("padchest").row(f"{name}.png") for name in "abcde"}

    assert {name: row["label"] for name, row in rows.items()} == {
        "a": "normal",
        "b": "other_pneumonia",
        "c": "other_pneumonia",
        "d": "normal",
        "e": "tuberculosis",
    }
    assert (rows["b"]["view"], rows["b"]["age"]) == ("AP", 84)


def test_rsna_images_of_one_patient_are_one_patient_and_known_to_nih(built):
    frame = built("rsna_pneumonia").frame

    assert frame["patient_id"].tolist() == ["nih-00000002", "nih-00000002", "nih-00000005"]
    assert frame["site"].unique().tolist() == built("nih_chestxray14").frame["site"].unique().tolist()


def test_rsna_without_mappings_counts_each_image_as_a_patient(tmp_path):
    MINIATURES["rsna_pneumonia"].make(tmp_path)
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").unlink()

    report = build_manifest(find_source("rsna_pneumonia"), tmp_path, tmp_path / "table.csv")

    assert report.patients == report.rows == 3


def test_rsna_mappings_of_another_kind_are_an_error(tmp_path):
    MINIATURES["rsna_pneumonia"].make(tmp_path)
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").write_text('[{"id": 1}]')

    with pytest.raises(InputError, match=r"mappings_2018\.json: not RSNA's list of mappings"):
        build_manifest(find_source("rsna_pneumonia"), tmp_path, tmp_path / "table.csv")


def test_vindr_counts_what_two_of_three_readers_mark(built):
    frame = built("vindr_cxr").frame.set_index("patient_id")

    assert frame["label"].to_dict() == {
        "agreed": "normal",
        "two_of_three": "other_pneumonia",
        "t1": "normal",
        "t2": "tuberculosis",
    }
    assert frame.loc["t1", "official_split"] == "test"
    assert frame["view"].eq("PA").all()


def test_vindr_marks_that_are_no_numbers_are_an_error(tmp_path):
    MINIATURES["vindr_cxr"].make(tmp_path)
    table = tmp_path / "annotations/image_labels_test.csv"
    table.write_text(table.read_text().replace(",1", ",yes"))

    with pytest.raises(InputError, match=r"image_labels_test\.csv: a label is not 0 or 1"):
        build_manifest(find_source("vindr_cxr"), tmp_path, tmp_path / "table.csv")


def test_bimcv_reads_labels_of_a_session_whatever_divides_them(built):
    frame = built("bimcv_covid19").frame

    assert frame["view"].tolist() == ["PA", "AP", "AP"]
    assert frame["age"].tolist()[:2] == [67, 67]
    assert frame["age"].isna().tolist() == [False, False, True]


def test_brixia_ages_are_the_middle_of_five_years_and_the_score_is_kept(built):
    frame = built("brixia").frame

    assert frame["age"].tolist() == [67, 67, 2]
    assert frame["brixia_score"].tolist() == ["0", "12", "1"]
    assert frame["view"].tolist() == ["AP", "AP", ""]


def test_ieee8023_is_one_site_and_an_image_has_its_own_location_and_licence(built):
    frame = built("ieee8023").frame.set_index("patient_id")

    assert frame["site"].nunique() == 1
    assert frame.loc["ieee8023-2", "location"].tolist() == ["", "Cho Ray Hospital, Ho Chi Minh City, Vietnam"]
    assert frame.loc["ieee8023-2", "licence"].tolist() == ["CC BY-NC-SA", "not stated"]


def test_hannover_women_are_w(built):
    assert built("hannover").frame.set_index("patient_id")["sex"].to_dict() == {"042f06a9": "M", "0a359802": "F"}


def test_radiography_masks_are_enlarged_and_class_and_site_are_one(built):
    frame = built("covid19_radiography").frame

    mask = Path(frame["mask"].max())
    assert mask.parts[-4:] == ("covid19_radiography_masks", "COVID", "images", "COVID-1.png")
    assert (frame.groupby("site")["label"].nunique() == 1).all()


def test_a_broken_dicom_file_is_dropped_and_the_rest_built(tmp_path):
    MINIATURES["brixia"].make(tmp_path)
    (tmp_path / "dicom_clean" / "1.dcm").write_bytes(b"<html>")
    dicom(tmp_path / "dicom_clean" / "4.dcm", ViewPosition="LL")

    report = build_manifest(find_source("brixia"), tmp_path, tmp_path / "table.csv")

    assert report.dropped == {"DICOM header cannot be read": 1, "view 'LL' is not frontal": 1}
    assert report.rows == 2
