"""DICOM results read back: what they refer to, what they say, where the heatmap lies, and whom they name."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from cxr_isnet.cli import main
from cxr_isnet.deployment import DicomResults
from cxr_isnet.deployment.dicom_results import BANNER, banner_rows, draw_heatmap
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import DecisionRule
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import SegmenterConfig, build_segmenter
from cxr_isnet.segmentation import Segmenter
from tests.imaging.chest_files import SECRET, chest_dataset

hd = pytest.importorskip("highdicom", reason="pip install 'cxr-isnet[dicom-results]'")

PROBABILITIES = [0.25, 0.75]
UIDS = {"SeriesInstanceUID": "2.25.3000", "FrameOfReferenceUID": None}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A CR of 64 x 48 pixels, whose header is full of identity."""
    pixels = np.random.default_rng(0).integers(0, 4095, (64, 48)).astype(np.uint16)
    dataset = chest_dataset(0, pixels, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Änne", **UIDS)
    dataset.save_as(tmp_path / f"{SECRET}.dcm", enforce_file_format=True)
    return tmp_path / f"{SECRET}.dcm"


@pytest.fixture
def results(classifier: Classifier) -> DicomResults:
    """With lungs in the upper half."""

    def upper_half(image: np.ndarray) -> np.ndarray:
        mask = np.zeros(image.shape, np.uint8)
        mask[: len(mask) // 2] = 1
        return mask

    return DicomResults(classifier, "models:/tb/1", DecisionRule(0.6, "given"), find_lungs=upper_half)


@pytest.fixture
def made(results: DicomResults, source: Path, tmp_path: Path) -> dict[str, pydicom.Dataset]:
    """The results by modality, read back from their files."""
    (tmp_path / "out").mkdir()
    files = results.write(source, PROBABILITIES, tmp_path / "out")
    return {dataset.Modality: dataset for dataset in map(pydicom.dcmread, files)}


def test_all_are_of_the_study_and_the_patient_of_the_source(made: dict[str, pydicom.Dataset], source: Path) -> None:
    original = pydicom.dcmread(source)

    assert sorted(made) == ["OT", "SEG", "SR"]
    for result in made.values():
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge",
                        "AccessionNumber", "ReferringPhysicianName", "StudyDescription"):  # fmt: skip
            assert result[keyword].value == original[keyword].value, (result.Modality, keyword)


def test_every_uid_is_new(results: DicomResults, source: Path) -> None:
    objects = results.make(source, PROBABILITIES) + results.make(source, PROBABILITIES)

    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        uids = {str(dataset[keyword].value) for dataset in objects}
        assert len(uids) == 6
        assert str(pydicom.dcmread(source)[keyword].value) not in uids


def test_all_refer_to_the_source(made: dict[str, pydicom.Dataset], source: Path) -> None:
    uid = pydicom.dcmread(source).SOPInstanceUID

    assert made["OT"].SourceImageSequence[0].ReferencedSOPInstanceUID == uid
    assert made["SEG"].ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == uid
    evidence = made["SR"].CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uid


def test_the_report_gives_probabilities_decision_model_and_disclaimer(made: dict[str, pydicom.Dataset]) -> None:
    report = hd.sr.Comprehensive3DSR.from_dataset(made["SR"])

    (group,) = report.content.get_image_measurement_groups()
    numbers = {item.name.meaning: (item.value, item.unit.value) for item in group.get_measurements()}
    assert numbers == {"Probability of normal": (0.25, "1"), "Probability of tuberculosis": (0.75, "1")}
    (decision,) = group.get_qualitative_evaluations()
    assert (decision.name.meaning, decision.value.meaning) == ("Decision", "tuberculosis")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    text = report.to_json()
    assert "models:/tb/1" in text
    assert "threshold 0.6" in text
    assert report.ContentSequence[-1].TextValue.startswith("RESEARCH USE ONLY - NOT FOR CLINICAL USE.")


@pytest.mark.parametrize(("threshold", "decided"), [(0.8, "normal"), (0.6, "tuberculosis"), (None, "tuberculosis")])
def test_the_decision_is_that_of_the_rule(
    results: DicomResults, source: Path, threshold: float | None, decided: str
) -> None:
    rule = DecisionRule(threshold, "given")

    report, heatmap, _ = replace(results, rule=rule).make(source, PROBABILITIES)

    (group,) = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_image_measurement_groups()
    assert group.get_qualitative_evaluations()[0].value.value == f"class:{decided}"
    assert f"Relevance for {decided}" in heatmap.DerivationDescription


def test_the_segmentation_is_the_lungs_at_the_size_of_the_source(made: dict[str, pydicom.Dataset]) -> None:
    segmentation = hd.seg.Segmentation.from_dataset(made["SEG"])

    pixels = segmentation.pixel_array.squeeze()
    assert pixels.shape == (64, 48)
    assert pixels[:32].all()
    assert not pixels[32:].any()
    segment = segmentation.SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"


def test_of_a_source_on_its_side_the_lungs_lie_on_its_pixels_and_the_picture_is_upright(
    results: DicomResults, source: Path
) -> None:
    """Columns of the source run to the patient's left, rows to the head: its upper half is the right half as stored."""
    dataset = pydicom.dcmread(source)
    dataset.PatientOrientation = ["H", "L"]
    dataset.save_as(source)

    made = {result.Modality: result for result in results.make(source, PROBABILITIES)}

    lungs = made["SEG"].pixel_array
    assert lungs.shape == (64, 48)
    assert lungs[:, 24:].all()
    assert not lungs[:, :24].any()
    assert list(made["SEG"].PatientOrientation) == ["H", "L"]
    assert list(made["OT"].PatientOrientation) == ["L", "F"]
    assert made["OT"].Columns > made["OT"].Rows - 2 * banner_rows(48, 64)


def test_the_heatmap_lies_where_the_relevance_is_and_a_banner_above() -> None:
    image = np.full((400, 200), 0.5, np.float32)
    heatmap = np.zeros((40, 40), np.float32)
    heatmap[30:36, 4:12] = 1.0
    heatmap[5:10, 20:30] = -1.0  # speaks against the class: not drawn

    picture = draw_heatmap(image, heatmap, "tuberculosis 0.75")

    band = banner_rows(400, 200)
    assert picture.shape == (400 + 2 * band, 200, 3)
    body = picture[band : band + 400].astype(int)
    red = body[..., 0] - body[..., 2]
    rows, columns = np.nonzero(red > 40)
    assert 290 <= rows.min() <= 305
    assert 355 <= rows.max() <= 370
    assert 15 <= columns.min() <= 25
    assert 55 <= columns.max() <= 65
    assert (red[:280] == 0).all()
    assert picture[:band, :, 0].min() >= 150
    assert picture[:band].min() < 50
    assert picture[:band, :, 1].max() > 200  # white letters on red
    assert picture[-band:].max() > 200


def test_a_heatmap_without_relevance_leaves_the_image_as_it_is() -> None:
    image = np.random.default_rng(0).random((40, 40), dtype=np.float32)

    picture = draw_heatmap(image, np.zeros((10, 10), np.float32), "x")

    band = banner_rows(40, 40)
    np.testing.assert_array_equal(picture[band:-band, :, 0], np.rint(image * 255))


def test_the_picture_of_a_large_radiograph_is_limited() -> None:
    picture = draw_heatmap(np.zeros((3000, 1500), np.float32), np.zeros((8, 8), np.float32), "x")

    assert picture.shape == (1024 + 2 * 64, 512, 3)


def test_the_capture_says_what_it_is(made: dict[str, pydicom.Dataset]) -> None:
    capture = made["OT"]

    assert capture.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert capture.pixel_array.shape == (64 + 2 * banner_rows(64, 48), 48, 3)
    assert capture.BurnedInAnnotation == "NO"
    assert BANNER in capture.DerivationDescription
    assert "research use only" in capture.SeriesDescription


def test_names_of_files_hold_no_identity(made: dict[str, pydicom.Dataset], tmp_path: Path) -> None:
    names = [path.name for path in (tmp_path / "out").iterdir()]

    assert sorted(name.partition("-")[0] for name in names) == ["heatmap", "lungs", "report"]
    assert not any(SECRET in name for name in names)


def test_a_classifier_that_cannot_be_explained_and_no_segmenter_leave_the_report(
    results: DicomResults, source: Path
) -> None:
    from cxr_isnet.objectives import Explanation

    made = replace(results, explanation=Explanation.NONE, find_lungs=None).make(source, PROBABILITIES)

    assert [dataset.Modality for dataset in made] == ["SR"]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_source_without_its_uids_is_an_error_that_names_no_one(
    keyword: str, results: DicomResults, source: Path
) -> None:
    dataset = pydicom.dcmread(source)
    del dataset[keyword]
    dataset.save_as(source)

    with pytest.raises(InputError, match=f"{keyword} is missing") as caught:
        results.make(source, PROBABILITIES)

    assert SECRET not in str(caught.value)


def test_what_hospitals_leave_out_is_empty(results: DicomResults, source: Path) -> None:
    dataset = pydicom.dcmread(source)
    for keyword in ("PatientBirthDate", "StudyID", "StudyTime", "AccessionNumber", "PatientSex", "PatientOrientation"):
        dataset.pop(keyword, None)
    dataset.save_as(source)

    for result in results.make(source, PROBABILITIES):
        assert not result.AccessionNumber


def test_what_hospitals_misspell_is_empty(results: DicomResults, source: Path) -> None:
    dataset = pydicom.dcmread(source)
    wrong = {"PatientBirthDate": "unknown", "StudyDate": "31.01.2020", "StudyTime": "12:30", "PatientSex": "X"}
    with pydicom.config.disable_value_validation():
        for keyword, value in (wrong | {"PatientAge": "70", "PatientOrientation": ["X", "Y"]}).items():
            setattr(dataset, keyword, value)
        dataset.save_as(source)

    for result in results.make(source, PROBABILITIES):
        assert all(not result[keyword].value for keyword in wrong), result.Modality
        assert "PatientAge" not in result
        assert result.get("PatientOrientation", ["L", "F"]) == ["L", "F"]


@pytest.fixture
def archive(phantom_manifest: Path, tmp_path: Path) -> Path:
    """Two phantoms, a DICOM file that results cannot refer to, a picture, a web page."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for name, image in zip("ab", sorted((phantom_manifest.parent / "images").iterdir()), strict=False):
        shutil.copy(image, folder / f"{name}.dcm")
    dataset = pydicom.dcmread(folder / "a.dcm")
    del dataset.StudyInstanceUID
    dataset.save_as(folder / "c.dcm")
    (folder / "d.dcm").write_text("<html>")
    return folder


def run(*words: str) -> int:
    try:
        main(["predict", *words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_predict_writes_the_results_of_every_file_that_has_any(
    trained: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segmenter = Segmenter(build_segmenter(SegmenterConfig(channels=(4, 8))), SegmenterConfig(channels=(4, 8)),
                          Classifier.load(trained / "best.pt").image)  # fmt: skip
    segmenter.save(tmp_path / "lungs.pt")
    out, table = tmp_path / "results", tmp_path / "p.csv"

    status = run(str(trained / "best.pt"), str(archive), "-o", str(table), "--dicom-results", str(out),
                 "--segmenter", str(tmp_path / "lungs.pt"), "--threshold", "0.5")  # fmt: skip

    rows = pd.read_csv(table, keep_default_na=False).set_index("path")
    assert status == 1
    named = [name for names in rows["dicom_results"] for name in names.split("; ") if name]
    assert sorted(named) == sorted(path.name for path in out.iterdir())
    for name in "ab":
        files = rows.loc[str(archive / f"{name}.dcm"), "dicom_results"].split("; ")
        assert {file.partition("-")[0] for file in files} >= {"report", "heatmap"}
        report = pydicom.dcmread(out / files[0])
        source = pydicom.dcmread(archive / f"{name}.dcm")
        assert report.StudyInstanceUID == source.StudyInstanceUID
        number = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_image_measurement_groups()[0]
        probability = number.get_measurements()[1].value
        assert probability == pytest.approx(float(rows.loc[str(archive / f"{name}.dcm"), "probability_tuberculosis"]),
                                            abs=1e-6)  # fmt: skip
    assert "StudyInstanceUID is missing" in rows.loc[str(archive / "c.dcm"), "dicom_results_error"]
    said = capsys.readouterr()
    assert "4 images" in said.out
    assert "PHANTOM" not in said.out + said.err
    assert not any(path.name.startswith(".p.csv") for path in tmp_path.iterdir())


def test_a_segmenter_without_results_is_an_error(
    trained: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(str(trained / "best.pt"), str(archive), "-o", str(tmp_path / "p.csv"), "--segmenter", "lungs.pt")

    assert status == 2
    assert "dicom_results is not" in capsys.readouterr().err


@pytest.mark.services
def test_dciodvfy_finds_no_error(results: DicomResults, phantom_manifest: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for image in (sorted((phantom_manifest.parent / "images").iterdir())[0], source):
        files = results.write(image, PROBABILITIES, tmp_path / "out")
        for file in files:
            said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, encoding="latin-1")
            faults = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith(("Error", "Abort"))]
            assert faults == [], file.name
