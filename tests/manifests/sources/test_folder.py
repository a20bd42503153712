import logging

import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifest
from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.source_parsing.source import TableOptions
from cxr_isnet.manifests.sources import find_source

from .files import dicom, picture, table


@pytest.fixture
def hospital(tmp_path):
    """A folder of DICOM files, some without a suffix, and pictures."""
    root = tmp_path / "hospital"
    dicom(root / "2024" / "1.2.840.7", ViewPosition="AP", PatientSex="M")
    dicom(root / "2024" / "side.dcm", ViewPosition="LL")
    picture(root / "2025" / "b.png")
    picture(root / "2024" / "twice.png")
    picture(root / "2025" / "twice.png")
    return root


def labels(tmp_path, *images):
    rows = [
        {"image": image, "label": "normal", "patient_id": f"p{number}", "site": "Alder"}
        for number, image in enumerate(images)
    ]
    return str(table(tmp_path / "labels.csv", rows))


def build(root, output, **options):
    return build_manifest(find_source("folder"), root, output, options=TableOptions(**options))


def test_files_are_found_by_path_name_or_stem(hospital, tmp_path):
    names = labels(tmp_path, "2024/1.2.840.7", "b", "2025/twice.png", "gone.dcm", "side.dcm")

    report = build(hospital, tmp_path / "table.csv", table=names)

    assert report.rows == 3
    assert report.dropped == {"image file is missing": 1, "view 'lateral' is not frontal": 1}


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ("2025\\twice.png", "2025/twice.png"),  # as Windows writes it
        ("./2025/twice.png", "2025/twice.png"),
        ("2025/twice", "2025/twice.png"),
        ("B.PNG", "2025/b.png"),
        ("Side.dcm", "2024/Side.dcm"),
        ("side.dcm", "2024/side.dcm"),
        ("1.2.840", "2025/1.2.840"),  # and not 1.2.840.7 without its last number
        ("M\u00fcller.png", "2025/Mu\u0308ller.png"),  # as macOS writes it
    ],
)
def test_a_file_is_found_however_its_name_is_written(hospital, tmp_path, cell, file):
    dicom(hospital / "2024" / "Side.dcm")
    dicom(hospital / "2025" / "1.2.840")
    dicom(hospital / "2024" / "side.dcm")
    picture(hospital / "2025" / "Mu\u0308ller.png")

    build(hospital, tmp_path / "table.csv", table=labels(tmp_path, cell))

    assert read_manifest(tmp_path / "table.csv")["image"].tolist() == [str(hospital / file)]


def test_headers_fill_what_the_table_lacks_but_never_the_patient(hospital, tmp_path):
    build(hospital, tmp_path / "table.csv", table=labels(tmp_path, "1.2.840.7", "b.png"))

    frame = read_manifest(tmp_path / "table.csv")

    assert frame["patient_id"].tolist() == ["p0", "p1"]
    assert frame["view"].tolist() == ["AP", ""]
    assert frame["sex"].tolist() == ["M", ""]
    assert "Name^Of^A^Person" not in (tmp_path / "table.csv").read_text()


def test_a_dicom_file_without_preamble_is_known_by_its_content(hospital, tmp_path):
    whole = (hospital / "2024" / "1.2.840.7").read_bytes()
    (hospital / "bare").write_bytes(whole[132:])  # it starts with group 0002

    build(hospital, tmp_path / "table.csv", table=labels(tmp_path, "bare"))

    assert read_manifest(tmp_path / "table.csv")["view"].tolist() == ["AP"]


def test_files_that_no_row_names_are_reported(hospital, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        build(hospital, tmp_path / "table.csv", table=labels(tmp_path, "b.png"))

    assert "4 files are not named in" in caplog.text


def test_a_name_of_two_files_is_an_error(hospital, tmp_path):
    with pytest.raises(InputError, match=r"image 'twice.png' is the name of 2 files.*2024.twice.png and .*2025"):
        build(hospital, tmp_path / "table.csv", table=labels(tmp_path, "twice.png"))


def test_labels_and_patients_are_needed(hospital, tmp_path):
    with pytest.raises(InputError, match="source 'folder' needs table"):
        build(hospital, tmp_path / "table.csv")
    nameless = str(table(tmp_path / "nameless.csv", [{"image": "b.png", "label": "normal", "site": "Alder"}]))
    with pytest.raises(InputError, match="column 'patient_id' is missing"):
        build(hospital, tmp_path / "table.csv", table=nameless)
    with pytest.raises(InputError, match="there is no such folder"):
        build(tmp_path / "gone", tmp_path / "table.csv", table=nameless)
