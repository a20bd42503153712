"""The intake of a whole folder of a hospital: what comes out, and what must not."""

import csv
import io
import json
import logging
import shutil
import stat
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_isnet.commands.intake import IntakeConfig, intake
from cxr_isnet.errors import InputError
from cxr_isnet.files import exclusive, without_apostrophe
from cxr_isnet.imaging import read_image
from cxr_isnet.imaging.acceptance import AcceptanceConfig
from cxr_isnet.intake import importer
from cxr_isnet.intake.importer import DateAction, FileLimits, ImageFormat, PolarityAction
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
    assert set(frame["device"]) == {"other"}


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


def test_run_again_nothing_is_done_twice_and_labels_come_in_and_stay(finished, tmp_path):
    root, out = finished[0].parent / "root", tmp_path / "out"
    for name in ("out", "out.private"):
        shutil.copytree(finished[0].parent / name, tmp_path / name, copy_function=shutil.copy2)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    tables = {name: (out / name).read_bytes() for name in ("provenance.csv", "quarantine.csv")}
    (tmp_path / "labels.csv").write_text(f"patient_id,label\n{SECRET}-1,ill\n")

    intake(IntakeConfig(str(root), str(out), site="Alder", labels=str(tmp_path / "labels.csv"), workers=1))

    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
    assert {name: (out / name).read_bytes() for name in tables} == tables
    assert sorted(row["label"] for row in rows(out / "manifest.csv")) == ["ill", "ill", "unlabelled", "unlabelled"]
    manifest = (out / "manifest.csv").read_bytes()
    assert "labels: 2 images have that of an earlier run, 2 have none" in intake(
        IntakeConfig(str(root), str(out), workers=1)
    )
    assert (out / "manifest.csv").read_bytes() == manifest  # site and labels, which the command left out


def test_a_table_of_names_that_another_program_saved_is_told(imported, tmp_path):
    intake(imported)
    names = tmp_path / "out.private/files.csv"
    names.write_text(names.read_text().replace(",", ";"))

    with pytest.raises(InputError, match=r"files\.csv: not as an intake writes it"):
        intake(imported)


def test_labels_that_do_not_join_are_told(tmp_path):
    for number in (12, 13):
        write_chest(tmp_path / f"root/{number}", number, PatientID=f"00{number}")
    config = IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), workers=1, labels=str(tmp_path / "labels.csv"))

    (tmp_path / "labels.csv").write_text("patient_id,label\n12,ill\n13,normal\n")
    with pytest.raises(InputError, match=r"has '12', '13'; the images have '0012', '0013'\. 2 would join if zeros"):
        intake(config)
    assert not (tmp_path / "out/manifest.csv").exists()

    (tmp_path / "labels.csv").write_text("patient_id,label\n0012,ill\n13,normal\n")
    summary = intake(config)
    assert "labels: 1 rows label no image, 1 images have no row" in summary
    assert "1 would join if zeros in front" in summary
    assert [row["patient_id"] for row in rows(tmp_path / "out.private/unjoined_labels.csv")] == ["13", ""]


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


def test_a_file_that_was_moved_is_imported_once(imported, tmp_path):
    (tmp_path / "root/a").rename(tmp_path / "root/b")
    write_chest(tmp_path / "root/c", 2)

    intake(imported)

    names = names_of(tmp_path / "out")
    assert sorted(names[row["file_id"]] for row in rows(tmp_path / "out/manifest.csv")) == ["b", "c"]


def table_contents(out):
    names = [out / name for name in ("manifest.csv", "provenance.csv", "quarantine.csv")]
    return [path.read_bytes() for path in (*names, Path(f"{out}.private/files.csv"))]


def test_files_that_are_gone_stay_in_the_tables_unless_they_are_pruned(tmp_path):
    for number in range(3):
        write_chest(tmp_path / f"root/2019/{number}", number)
    (tmp_path / "root/2019/letter").write_text("no image")
    config = IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), workers=1)
    intake(config)
    before = table_contents(tmp_path / "out")
    images = sorted((tmp_path / "out/images").rglob("*.png"))
    shutil.rmtree(tmp_path / "root/2019")

    with pytest.raises(InputError, match=r"holds no file\. Mount it"):
        intake(config)
    assert table_contents(tmp_path / "out") == before
    write_chest(tmp_path / "root/2020", 7)
    summary = intake(config)
    assert "4 files that an earlier run found are gone from the root; their rows stay" in summary
    for path, old in zip(table_contents(tmp_path / "out"), before, strict=True):
        assert set(old.splitlines()) <= set(path.splitlines())
    assert all(image.exists() for image in images)

    summary = intake(replace(config, prune=True))

    assert "4 files that are gone from the root were pruned" in summary
    (row,) = rows(tmp_path / "out/manifest.csv")
    assert names_of(tmp_path / "out") == {row["file_id"]: "2020"}
    assert rows(tmp_path / "out/quarantine.csv") == []
    assert [path.name for path in (tmp_path / "out/images").rglob("*.png")] == [Path(row["image"]).name]


def test_nothing_is_pruned_while_an_archive_cannot_be_listed(tmp_path):
    with zipfile.ZipFile(tmp_path / "2019.zip", "w") as archive:
        archive.writestr("a", chest_bytes(1))
    (tmp_path / "root").mkdir()
    whole = (tmp_path / "2019.zip").read_bytes()
    (tmp_path / "root/2019.zip").write_bytes(whole)
    config = IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), workers=1)
    intake(config)
    before = rows(tmp_path / "out/manifest.csv")
    (tmp_path / "root/2019.zip").write_bytes(whole[:-30])

    summary = intake(config)
    with pytest.raises(InputError, match="1 folders or archives of the root cannot be listed"):
        intake(replace(config, prune=True))

    assert "1 folders or archives cannot be listed" in summary
    assert rows(tmp_path / "out/manifest.csv") == before
    assert [row["reason"] for row in rows(tmp_path / "out/quarantine.csv")] == ["archive"]
    (tmp_path / "root/2019.zip").write_bytes(whole)
    assert "gone" not in intake(config)
    assert rows(tmp_path / "out/quarantine.csv") == []


def test_a_file_that_cannot_be_reached_keeps_the_row_that_it_has(imported, tmp_path):
    (tmp_path / "root/b").symlink_to(tmp_path / "root/c")
    write_chest(tmp_path / "root/c", 2)
    intake(imported)
    before = rows(tmp_path / "out/manifest.csv")
    (tmp_path / "root/c").rename(tmp_path / "elsewhere")

    intake(imported)

    images = {row["image"] for row in rows(tmp_path / "out/manifest.csv")}
    assert images == {row["image"] for row in before}


def test_another_root_into_one_output_is_refused_and_names_its_files_otherwise(imported, tmp_path):
    shutil.copytree(tmp_path / "root", tmp_path / "second")
    another = replace(imported, root=str(tmp_path / "second"))

    with pytest.raises(InputError, match="begun with another root"):
        intake(another)
    shutil.copytree(tmp_path / "out.private", tmp_path / "other.private")  # the same key
    intake(replace(another, output=str(tmp_path / "other")))

    first, second = (rows(tmp_path / name / "manifest.csv")[0] for name in ("out", "other"))
    assert first["patient_id"] == second["patient_id"]
    assert first["file_id"] != second["file_id"]


def test_members_of_one_name_have_a_row_each(tmp_path):
    (tmp_path / "root").mkdir()
    with zipfile.ZipFile(tmp_path / "root/a.zip", "w") as archive:
        archive.writestr("x", chest_bytes(0))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x", chest_bytes(1))
        archive.writestr("x#2", chest_bytes(2))
    write_chest(tmp_path / "root/a.zip!x", 7)

    intake(IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), workers=1))

    assert len(rows(tmp_path / "out/manifest.csv")) == 4
    names = sorted(names_of(tmp_path / "out").values())
    assert names == ["a.zip!x", "a.zip!x#2", "a.zip!x#2#2", "a.zip!x#3"]


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path):
    write_chest(tmp_path / "root/a", 1)
    (tmp_path / "project").mkdir()
    (tmp_path / "project/README.md").write_text("years of work")

    with pytest.raises(InputError, match=r"output '.*project' holds files, but no intake"):
        intake(IntakeConfig(str(tmp_path / "root"), str(tmp_path / "project"), workers=1))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["project", "root"]
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["README.md"]


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file"])
def test_a_private_folder_that_others_may_have_opened_is_refused(tmp_path, kind):
    write_chest(tmp_path / "root/a", 1)
    private = tmp_path / "out.private"
    if kind == "open to others":
        private.mkdir(mode=0o755)
    elif kind == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        private.symlink_to(tmp_path / "elsewhere")
    else:
        private.write_text("")

    with pytest.raises(InputError, match=r"out\.private: (is open to others \(mode 755\)|a link|cannot be written)"):
        intake(IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), workers=1))

    assert not (tmp_path / "out/manifest.csv").exists()
    assert not list((tmp_path / "elsewhere").glob("*"))


@pytest.mark.parametrize("images", ImageFormat)
def test_the_output_says_whether_it_may_be_passed_on(tmp_path, images):
    write_chest(tmp_path / "root/a", 1)

    summary = intake(IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), format=images, workers=1))

    identified = images is ImageFormat.REFERENCE
    text = (tmp_path / "out/README.md").read_text()
    assert ("NOT TO BE PASSED ON" in text, "NOT TO BE PASSED ON" in summary) == (identified, identified)
    assert "out.private" in text


def test_a_file_that_takes_too_long_or_too_much_is_told_as_a_reason_and_tried_again(imported, tmp_path, monkeypatch):
    write_chest(tmp_path / "root/b", 2)
    (tmp_path / "root/b").open("ab").write(b"\0" * 1_100_000)
    read = importer.read_radiograph

    def slowly(stream, *rest, **limits):
        time.sleep(600 if "root/c" in stream.name else 0)
        return read(stream, *rest, **limits)

    write_chest(tmp_path / "root/c", 3)
    monkeypatch.setattr(importer, "read_radiograph", slowly)  # the workers are forks, and have it too
    intake(replace(imported, limits=FileLimits(megabytes=1, seconds=0.5)))
    details = sorted(row["detail"] for row in rows(tmp_path / "out/quarantine.csv"))
    assert details[0].startswith("a file of 1108930 bytes")
    assert details[1].startswith("took longer than 0.5 s")
    assert {row["reason"] for row in rows(tmp_path / "out/quarantine.csv")} == {"limit"}
    monkeypatch.undo()

    intake(imported)

    assert rows(tmp_path / "out/quarantine.csv") == []


@pytest.mark.parametrize("name", ["=1+1.dcm", "a\nb", "a\rb", "\udcff\udcfe.dcm", "'=a", "e\x1b[31m.dcm"])
def test_names_that_other_programs_run_are_kept_as_texts(tmp_path, name):
    write_chest(tmp_path / "root" / name, 1)

    config = IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), workers=1)
    intake(config)
    (tmp_path / "root" / name).rename(tmp_path / "gone")
    write_chest(tmp_path / "root/b", 2)
    summary = intake(config)

    with open(tmp_path / "out.private/files.csv", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        found = {without_apostrophe(row["file"]) for row in csv.DictReader(stream)}
    assert found == {name, "b"}
    assert "1 files that an earlier run found are gone" in summary


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

    def fail(*_, **__):
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


@pytest.mark.parametrize(
    ("first", "second", "flags"),
    [
        ({"StudyInstanceUID": "2.25.5"}, {"StudyInstanceUID": "2.25.5"}, "shared_study"),
        ({"PatientID": "7"}, {"PatientID": "7", "PatientSex": "M"}, "mixed_patient"),
        ({"PatientID": "7"}, {"PatientID": "7", "PatientBirthDate": "19600101"}, "mixed_patient"),
        ({"PatientID": "ANONYMOUS"}, {"PatientID": "ANONYMOUS"}, "placeholder_patient"),
        ({"PatientID": "7"}, {"PatientID": "7"}, ""),
    ],
)
def test_patients_that_contradict_each_other_are_flagged_and_told(tmp_path, first, second, flags):
    for number, elements in enumerate([first, second]):
        write_chest(tmp_path / f"root/{number}", number, **elements)

    summary = intake(IntakeConfig(str(tmp_path / "root"), str(tmp_path / "out"), workers=1))

    assert [row["flags"] for row in rows(tmp_path / "out/manifest.csv")] == [flags] * 2
    assert f"'{flags}': " in summary if flags else "PatientID" not in summary


@pytest.mark.realdata
def test_real_files(real_data_folder, tmp_path):
    intake(IntakeConfig(str(real_data_folder / "dicom"), str(tmp_path / "out")))

    names = names_of(tmp_path / "out")
    flags = {names[row["file_id"]]: row["flags"] for row in rows(tmp_path / "out/manifest.csv")}
    rejected = {names[row["file_id"]]: row["detail"] for row in rows(tmp_path / "out/quarantine.csv")}
    assert {name for name, flag in flags.items() if "polarity" in flag} == {"nih_cr_chest_wrong_monochrome1.dcm"}
    assert set(flags) == {"RG1_J2KI.dcm", "nih_cr_chest.dcm", "nih_cr_chest_wrong_monochrome1.dcm"}
    reasons = {
        "CR-ModalitySequenceLUT_dental_not_chest.dcm": "SeriesDescription names another part",  # teeth
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
