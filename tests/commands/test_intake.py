"""The intake of a whole folder of a hospital: what comes out, and what must not."""

import csv
import io
import json
import logging
import shutil
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_isnet.commands.intake import IntakeConfig, intake
from cxr_isnet.errors import InputError
from cxr_isnet.files import exclusive
from cxr_isnet.imaging import read_image
from cxr_isnet.imaging.acceptance import AcceptanceConfig
from cxr_isnet.intake import importer
from cxr_isnet.intake.importer import DateAction, ImageFormat, PolarityAction
from cxr_isnet.intake.pseudonyms import Pseudonyms
from cxr_isnet.manifests import read_manifest
from tests.imaging.chest_files import BROKEN, SECRET, chest_bytes, chest_pixels, write_chest

NEGATIVE = (4095 - chest_pixels(seed=40)).astype("<u2").tobytes()


def write_tree(root):
    """Two files of patient 1, one of patient 2 in an archive, a copy, a negative, and all that is broken."""
    write_chest(root / f"{SECRET}_Jane/IM1", 1)
    write_chest(
        root / f"{SECRET}_Jane/IM2.dcm", 1, pixels=chest_pixels(seed=11), SOPInstanceUID="2.25.5", ViewPosition="AP"
    )
    write_chest(root / "copy_of_1", 1)
    write_chest(root / "negative.dcm", 40, PixelData=NEGATIVE)
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        archive.writestr(f"{SECRET}/IM3", chest_bytes(2, PatientSex="M", PatientAge="095Y"))
        archive.writestr("notes.txt", f"report on {SECRET}")
    for name, (content, _) in BROKEN.items():
        (root / f"{SECRET}_{name}").write_bytes(content)


def rows(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a finished intake, its summary and its log; not to be changed."""
    folder = tmp_path_factory.mktemp("hospital")
    write_tree(folder / "root")
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CXR_ISNET_INTAKE_KEY", raising=False)
        summary = intake(IntakeConfig(str(folder / "root"), str(folder / "out"), site="Alder", workers=2))
    logging.getLogger().removeHandler(handler)
    return folder / "out", summary, log.getvalue()


def names_of(out):
    return {row["file_id"]: row["file"] for row in rows(f"{out}.private/files.csv")}


def test_every_file_is_in_the_manifest_or_in_the_quarantine_with_its_reason(finished):
    out, _, _ = finished
    names = names_of(out)
    accepted = [names[row["file_id"]] for row in rows(out / "manifest.csv")]
    rejected = {names[row["file_id"]]: row["reason"] for row in rows(out / "quarantine.csv")}

    twins = {"copy_of_1", f"{SECRET}_Jane/IM1"}
    kept = [name for name in accepted if name in twins]
    assert len(kept) == 1
    assert sorted(set(accepted) - twins) == sorted([f"{SECRET}_Jane/IM2.dcm", "negative.dcm", f"more.zip!{SECRET}/IM3"])
    expected = {f"{SECRET}_{name}": reason for name, (_, reason) in BROKEN.items()} | {
        "more.zip!notes.txt": "not_dicom"
    }
    assert rejected == expected | {(twins - set(kept)).pop(): "duplicate"}
    assert sorted(names.values()) == sorted([*accepted, *rejected])


def test_the_manifest_reads_as_a_manifest(finished):
    out, _, _ = finished

    frame = read_manifest(out / "manifest.csv")

    assert len(frame) == 4
    assert frame["patient_id"].nunique() == 3
    assert set(frame["site"]) == {"Alder"}
    assert set(frame["label"]) == {"unlabelled"}
    assert sorted(frame["view"]) == ["AP", "PA", "PA", "PA"]
    assert sorted(frame["age"]) == [70, 70, 70, 90]
    assert set(frame["device"]) == {"Acme Plate 1"}


def test_images_are_the_rendering_in_16_bits(finished):
    out, _, _ = finished
    frame = read_manifest(out / "manifest.csv")

    image = read_image(frame["image"][frame["view"] == "AP"].item())

    np.testing.assert_allclose(image, chest_pixels(seed=11) / 4095, atol=1 / 65535)
    assert len(list((out / "images").rglob("*.png"))) == 4


def test_the_record_says_what_was_done_and_the_negative_is_flagged(finished):
    out, summary, _ = finished
    names = names_of(out)
    record = {names[row["file_id"]]: row for row in rows(out / "provenance.csv")}

    assert record["negative.dcm"]["flags"] == "polarity"
    assert record["negative.dcm"]["applied"] == "full range 0 to 4095"
    assert record[f"{SECRET}_Jane/IM2.dcm"]["flags"] == ""
    assert "flagged polarity: 1" in summary
    assert "4 images of 3 patients accepted" in summary


def test_no_output_identifies_a_patient(finished):
    out, summary, log = finished

    assert SECRET not in summary + log
    for path in out.rglob("*"):
        assert SECRET not in str(path.relative_to(out))
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path.name
    for trace in ("19500101", "20200131", "1950-01-01", "2.25.1001"):
        assert trace not in (out / "manifest.csv").read_text() + (out / "provenance.csv").read_text()


def test_the_private_folder_is_beside_the_output_and_for_its_owner_only(finished):
    out, _, _ = finished
    private = Path(f"{out}.private")

    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert sorted(path.name for path in private.iterdir()) == ["files.csv", "key"]


def test_run_again_nothing_is_done_twice_and_labels_come_in(finished):
    out, _, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    tables = {name: (out / name).read_bytes() for name in ("provenance.csv", "quarantine.csv")}
    (out.parent / "labels.csv").write_text(f"patient_id,label\n{SECRET}-1,ill\n")

    labels = str(out.parent / "labels.csv")
    intake(IntakeConfig(str(out.parent / "root"), str(out), site="Alder", labels=labels, workers=1))

    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
    assert {name: (out / name).read_bytes() for name in tables} == tables
    assert sorted(row["label"] for row in rows(out / "manifest.csv")) == ["ill", "ill", "unlabelled", "unlabelled"]
    intake(IntakeConfig(str(out.parent / "root"), str(out), site="Alder", workers=1))  # as the other tests expect it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polarity": PolarityAction.CORRECT}, "begun with another polarity"),
        ({"acceptance": AcceptanceConfig(other_views=True)}, "begun with another acceptance"),
        ({"output": "root/out"}, "would be imported itself"),
        ({"root": "nowhere"}, "neither a folder nor a file"),
    ],
)
def test_wrong_paths_and_changed_settings_are_errors(finished, change, message):
    folder = finished[0].parent
    settings = {"root": "root", "output": "out", "acceptance": AcceptanceConfig()} | change
    settings |= {name: str(folder / settings[name]) for name in ("root", "output")}

    with pytest.raises(InputError, match=message):
        intake(IntakeConfig(**settings, workers=1))


@pytest.mark.parametrize(
    "settings",
    [
        {"site": " "},
        {"label": ""},
        {"workers": 0},
        {"format": ImageFormat.REFERENCE, "polarity": PolarityAction.CORRECT},
    ],
    ids=str,
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(InputError):
        IntakeConfig("root", "out", **settings)


def test_by_reference_with_shifted_dates(tmp_path):
    write_chest(tmp_path / f"root/{SECRET}.dcm", 1)

    intake(
        IntakeConfig(
            str(tmp_path / "root"), str(tmp_path / "out"), format=ImageFormat.REFERENCE, dates=DateAction.SHIFT
        )
    )

    row = read_manifest(tmp_path / "out/manifest.csv").iloc[0]
    assert SECRET not in row["image"]
    np.testing.assert_allclose(read_image(row["image"]), chest_pixels(seed=1) / 4095, atol=1e-6)
    assert "2019-01-31" <= row["study_date"] < "2020-01-31"


def test_settings_reach_the_manifest(tmp_path):
    write_chest(tmp_path / "root/a", 1)
    write_chest(tmp_path / "root/lateral", 2, ViewPosition="LL")
    (tmp_path / "key").write_text("a key of more than 16 bytes")

    settings = {"site": "Birch", "label": "normal", "licence": "CC0", "key_file": str(tmp_path / "key")}
    accepts_laterals = AcceptanceConfig(other_views=True)
    intake(IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), acceptance=accepts_laterals, **settings))

    frame = read_manifest(tmp_path / "out/manifest.csv")
    assert sorted(frame["view"]) == ["PA", "lateral"]
    for column in ("site", "label", "licence"):
        assert set(frame[column]) == {settings[column]}
    pseudonyms = Pseudonyms(b"a key of more than 16 bytes")
    assert set(frame["patient_id"]) == {pseudonyms.of("patient", f"{SECRET}-{number}") for number in (1, 2)}


@pytest.fixture
def imported(tmp_path):
    """Settings of an intake of one file, `root/a`, that is finished."""
    write_chest(tmp_path / "root/a", 1)
    config = IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), workers=1)
    intake(config)
    return config


def test_a_changed_file_is_imported_again(imported, tmp_path):
    write_chest(tmp_path / "root/a", 1, pixels=chest_pixels(96, seed=7))

    intake(imported)

    (image,) = read_manifest(tmp_path / "out/manifest.csv")["image"]
    assert read_image(image).shape == (96, 96)


def test_a_file_that_is_gone_leaves_the_tables(imported, tmp_path):
    (tmp_path / "root/a").rename(tmp_path / "root/b")
    write_chest(tmp_path / "root/c", 2)

    intake(imported)

    names = names_of(tmp_path / "out")
    assert sorted(names[row["file_id"]] for row in rows(tmp_path / "out/manifest.csv")) == ["b", "c"]


def test_an_image_that_is_gone_is_written_again(imported, tmp_path):
    (image,) = (tmp_path / "out").rglob("*.png")
    before = image.read_bytes()
    image.unlink()

    intake(imported)

    assert image.read_bytes() == before


def test_two_intakes_into_one_output_do_not_mix(imported, tmp_path):
    before = (tmp_path / "out/manifest.csv").read_bytes()
    write_chest(tmp_path / "root/b", 2)

    with exclusive(tmp_path / "out"), pytest.raises(InputError, match="another process is writing to it"):
        intake(imported)

    assert (tmp_path / "out/manifest.csv").read_bytes() == before


def test_another_key_is_another_setting(imported, tmp_path):
    (tmp_path / "key").write_text("another key of 16 bytes or more")

    with pytest.raises(InputError, match="begun with another key"):
        intake(replace(imported, key_file=str(tmp_path / "key")))


def test_a_fault_of_the_program_quarantines_the_file_without_the_message(imported, tmp_path, monkeypatch):
    write_chest(tmp_path / "root/b", 2)

    def fail(*_):
        raise KeyError(SECRET)

    monkeypatch.setattr(importer, "read_radiograph", fail)  # the workers are forks, and have it too
    intake(imported)

    (row,) = rows(tmp_path / "out/quarantine.csv")
    assert (row["reason"], row["detail"].startswith("KeyError at ")) == ("crashed", True)
    assert SECRET not in row["detail"]


def test_an_output_that_cannot_be_written_to_stops_the_intake(imported, tmp_path):
    write_chest(tmp_path / "root/b", 2)
    shutil.rmtree(tmp_path / "out/images")
    (tmp_path / "out/images").write_text("a file in the place of the folder")

    with pytest.raises(InputError, match="run again to resume"):
        intake(imported)


def test_files_of_one_instance_and_other_content_are_flagged(tmp_path):
    for number in (1, 2):
        write_chest(tmp_path / f"root/{number}", number, SOPInstanceUID="2.25.5")

    intake(IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), workers=1))

    for table in ("manifest.csv", "provenance.csv"):
        assert [row["flags"] for row in rows(tmp_path / "out" / table)] == ["repeated_instance"] * 2


@pytest.mark.realdata
def test_real_files(real_data_folder, tmp_path):
    intake(IntakeConfig(str(real_data_folder / "dicom"), str(tmp_path / "out")))

    names = names_of(tmp_path / "out")
    flags = {names[row["file_id"]]: row["flags"] for row in rows(tmp_path / "out/manifest.csv")}
    rejected = {names[row["file_id"]]: row["detail"] for row in rows(tmp_path / "out/quarantine.csv")}
    assert {name for name, flag in flags.items() if "polarity" in flag} == {"nih_cr_chest_wrong_monochrome1.dcm"}
    dental = "CR-ModalitySequenceLUT_dental_not_chest.dcm"
    assert set(flags) == {"RG1_J2KI.dcm", "nih_cr_chest.dcm", "nih_cr_chest_wrong_monochrome1.dcm", dental}
    assert {name for name, flag in flags.items() if "unknown_body_part" in flag} == {dental}
    reasons = {
        "RG2_JPLL.dcm": "'HIP'",
        "RG3_J2KR.dcm": "'EXTREMITY'",
        "RG3_RLE.dcm": "'EXTREMITY'",
        "CR-MONO1-10-chest.dcm": "PatientID (0010,0020) is missing",
        "chrJapMulti.dcm": "PixelData (7FE0,0010) is missing",
        "chrKoreanMulti.dcm": "PixelData (7FE0,0010) is missing",
    }
    assert set(rejected) == set(reasons)
    assert {name for name, reason in reasons.items() if reason not in rejected[name]} == set()
    assert json.dumps(rows(tmp_path / "out/provenance.csv")).find("Hamburg") == -1
