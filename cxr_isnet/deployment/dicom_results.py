"""What a classifier finds in a DICOM radiograph, as DICOM objects of the same study: report, heatmap, lungs.

They go back to the archive that the radiograph came from, so they carry its patient. File names and logs do not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DA, TM

from cxr_isnet import __version__
from cxr_isnet.config import require_extra
from cxr_isnet.data import prepare_image
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import ERROR_COLUMN, DecisionRule, probability_columns
from cxr_isnet.files import DISCLAIMER, atomic_write
from cxr_isnet.imaging import DICOM_ERRORS, Turn, image_turn, is_dicom, open_header, read_image
from cxr_isnet.inference import Classifier
from cxr_isnet.objectives import Explanation

BANNER = "RESEARCH USE ONLY - NOT FOR CLINICAL USE"
BANNER_SHARE = 1 / 16
"""Height of the banner above the heatmap and of the line below it, as a share of the picture's longer side."""

CAPTURE_SIDE = 1024
"""Longer side of the heatmap's picture, pixels."""

SCHEME = "99CXRISNET"
"""Scheme of the codes for which DICOM has none; private schemes begin with 99 (PS3.16, 8.2)."""

MANUFACTURER = "cxr-isnet"
_HEAT = (1.0, 0.25, 0.0)
_STRONGEST = 99.5
_DEVICE_UID = "2.25.194113286342817402391463104622861105417"
_SHORT = "research use only"
_NAMES = {"SR": "report", "OT": "heatmap", "SEG": "lungs"}
_SERIES_NUMBERS = {"SR": 9301, "OT": 9302, "SEG": 9303}
_EMPTY_IF_ABSENT = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Elements of type 2 (PS3.3, C.7.1.1 and C.7.2.1): present in every object, empty where nothing is known."""

_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

_AGE = re.compile(r"\d{3}[DWMY]")


def _is_read_by(kind: Callable[[str], object]) -> Callable[[object], bool]:
    def is_valid(value: object) -> bool:
        try:
            kind(str(value))
        except ValueError:
            return False
        return True

    return is_valid


_VALID: dict[str, Callable[[Any], bool]] = {
    "PatientBirthDate": _is_read_by(DA),
    "StudyDate": _is_read_by(DA),
    "StudyTime": _is_read_by(TM),
    "PatientSex": lambda value: value in ("F", "M", "O"),
}
"""Elements that are empty in the results where their value is none of their type (PS3.5, 6.2)."""

_UPRIGHT = ("L", "F")
_AXES = re.compile(r"[APRLHF]{1,3}")

LungFinder = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
"""An image (rows, columns) in [0, 1], bright is dense, to the lungs in it, (rows, columns) of 0 and 1."""


@dataclass(frozen=True)
class DicomResults:
    """The maker of results.

    Attributes:
        classifier: What was asked.
        model: Name of the model, as the report gives it.
        rule: From probabilities to the decision.
        explanation: How the heatmap is made; None takes the method's own way.
        find_lungs: Finds the lungs; None for no segmentation.

    Raises:
        InputError: highdicom is not installed.
    """

    classifier: Classifier
    model: str
    rule: DecisionRule = field(default_factory=DecisionRule)
    explanation: Explanation | None = None
    find_lungs: LungFinder | None = None

    def __post_init__(self) -> None:
        require_extra("DICOM results", "dicom-results", "highdicom")

    def write(self, path: Path, probabilities: Sequence[float], folder: Path) -> list[Path]:
        """Writes the results of one radiograph, each named by its kind and SOP Instance UID.

        Args:
            path: A DICOM file.
            probabilities: Of the classes.
            folder: Where to; exists.

        Returns:
            The files: report, heatmap (where the classifier can be explained), lungs (where they are looked for).

        Raises:
            InputError: The file cannot be read, or lacks what results must refer to; free of a person's identity.
        """
        written = []
        for result in self.make(path, probabilities):
            file = folder / f"{_NAMES[result.Modality]}-{result.SOPInstanceUID}.dcm"
            with atomic_write(file) as partial, partial.open("wb") as stream:
                result.save_as(stream, enforce_file_format=True)
                stream.flush()
                os.fsync(stream.fileno())
            written.append(file)
        return written

    def make(self, path: Path, probabilities: Sequence[float]) -> list[Dataset]:
        """The results as data sets; arguments and errors as of `write`."""
        image = read_image(path)
        turn, stored = image_turn(path)
        decided = int(self.rule.decide(np.array([probabilities], dtype=np.float64))[0])
        heatmap = self._heatmap(image, decided)
        lungs = None if self.find_lungs is None else self.find_lungs(image)
        with open_header(path) as header:
            try:
                source = _completed(header.dataset, stored)
                results = [_report(source, self, probabilities, decided)]
                if heatmap is not None:
                    line = f"{self.classifier.classes[decided]} {probabilities[decided]:.2f}"
                    results.append(_heatmap_capture(source, draw_heatmap(image, heatmap, line), line, turn))
                if lungs is not None and lungs.any():
                    results.append(_lung_segmentation(source, turn.undo(lungs)))
            except DICOM_ERRORS as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(
                    f"no DICOM results: the header cannot be carried over ({type(error).__name__}). Correct the source"
                ) from error
        return results

    def _heatmap(self, image: NDArray[np.float32], decided: int) -> NDArray[np.float32] | None:
        explain = self.classifier.explainer(self.explanation).explain
        if explain is None:
            return None
        prepared = prepare_image(image, self.classifier.image)[None].to(self.classifier.device)
        return np.asarray(explain(prepared)[1][0, decided].float().cpu().numpy())


def add_dicom_results(table: pd.DataFrame, results: DicomResults, folder: Path) -> pd.DataFrame:
    """Writes the results of every DICOM file of a predictions table. One that fails never stops the others.

    Args:
        table: As `cxr_isnet.inference.predict_manifest` returns it; not changed.
        results: Makes them.
        folder: Where to; exists.

    Returns:
        The table with the columns `dicom_results` (names of the files, joined by "; ") and `dicom_results_error` (why
        there are none of a DICOM file that was predicted); both are empty of other files.
    """
    names, errors = [""] * len(table), [""] * len(table)
    probabilities = table[probability_columns(results.classifier.classes)].to_numpy(dtype=np.float64)
    for row, (path, error) in enumerate(zip(table["path"], table[ERROR_COLUMN], strict=True)):
        if error or not is_dicom(Path(path)):
            continue
        try:
            names[row] = "; ".join(file.name for file in results.write(Path(path), probabilities[row].tolist(), folder))
        except InputError as failure:
            errors[row] = str(failure)
    return table.assign(dicom_results=names, dicom_results_error=errors)


def draw_heatmap(image: NDArray[np.float32], heatmap: NDArray[np.float32], line: str) -> NDArray[np.uint8]:
    """The radiograph with the heatmap over it in red, below a banner and above a line of text.

    Args:
        image: (rows, columns) in [0, 1].
        heatmap: (size, size) signed; what speaks for the class is shown, scaled by the 99.5th percentile of its
            absolute values.
        line: What stands below the picture.

    Returns:
        (height, width, 3) uint8; the picture begins `band` rows from the top and ends `band` rows from the bottom, with
        `band` `BANNER_SHARE` of its longer side.
    """
    scale = min(1.0, CAPTURE_SIDE / max(image.shape))
    width, height = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
    grey = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)).clip(0, 1)
    top = float(np.percentile(np.abs(heatmap), _STRONGEST)) or float(np.abs(heatmap).max()) or 1.0
    strength = Image.fromarray((heatmap / top).clip(0, 1).astype(np.float32))
    alpha = np.asarray(strength.resize((width, height), Image.Resampling.BILINEAR))[..., None] * 0.6
    colours = grey[..., None] * (1 - alpha) + np.array(_HEAT) * alpha
    picture = Image.fromarray(np.rint(colours * 255).astype(np.uint8))
    band = banner_rows(height, width)
    paper = Image.new("RGB", (width, height + 2 * band), "black")
    paper.paste(picture, (0, band))
    draw = ImageDraw.Draw(paper)
    draw.rectangle((0, 0, width, band - 1), fill=(160, 0, 0))
    for text, row in ((BANNER, 0), (line, height + band)):
        size = min(0.7 * band, 1.6 * width / max(1, len(text)))
        draw.text((width / 2, row + band / 2), text, "white", ImageFont.load_default(max(6.0, size)), anchor="mm")
    return np.asarray(paper)


def banner_rows(height: int, width: int) -> int:
    """Rows of the banner above a picture of this size, and of the line below it."""
    return max(10, round(max(height, width) * BANNER_SHARE))


def _completed(header: Dataset, shape: tuple[int, ...]) -> Dataset:
    """The header with what hospitals leave out or misspell made empty; raises `InputError` without the UIDs."""
    missing = [keyword for keyword in _REQUIRED if not header.get(keyword)]
    if missing:
        raise InputError(f"no DICOM results: {', '.join(missing)} is missing, which they must refer to")
    source = Dataset()
    source.update(header)
    source.file_meta = header.file_meta
    for keyword in _EMPTY_IF_ABSENT:
        if keyword not in source:
            setattr(source, keyword, "")
    for keyword, is_valid in _VALID.items():
        if source.get(keyword) and not is_valid(source.get(keyword)):
            setattr(source, keyword, "")
    if not _AGE.fullmatch(str(source.get("PatientAge", ""))):
        source.pop("PatientAge", None)  # of type 3: absent where unknown
    source.Rows, source.Columns = shape
    return source


def _equipment(kind: str, description: str) -> dict[str, Any]:
    """Identifiers and equipment, as highdicom takes them, of a new series of one object."""
    return {
        "series_instance_uid": generate_uid(prefix=None),
        "series_number": _SERIES_NUMBERS[kind],
        "sop_instance_uid": generate_uid(prefix=None),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "series_description": description,
    }


def _report(source: Dataset, results: DicomResults, probabilities: Sequence[float], decided: int) -> Dataset:
    """Comprehensive 3D SR by template TID 1500 (PS3.16): a probability for every class, the decision, a disclaimer."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    classifier = results.classifier
    threshold = "most probable class" if results.rule.threshold is None else f"threshold {results.rule.threshold:g}"
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(prefix=None), identifier="image"),
        finding_type=_code("radiograph", "Chest radiograph as a whole"),
        algorithm_id=sr.AlgorithmIdentification(
            name=MANUFACTURER, version=__version__, parameters=[f"model {results.model}", f"decision: {threshold}"]
        ),
        measurements=[
            sr.Measurement(
                name=_code(f"probability:{name}", f"Probability of {name}"),
                value=float(f"{probability:.6g}"),
                unit=codes.UCUM.NoUnits,
            )
            for name, probability in zip(classifier.classes, probabilities, strict=True)
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                _code("decision", "Decision"),
                _code(f"class:{classifier.classes[decided]}", classifier.classes[decided]),
            )
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                referenced_sop_class_uid=source.SOPClassUID, referenced_sop_instance_uid=source.SOPInstanceUID
            )
        ],
    )
    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=_DEVICE_UID, name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=MANUFACTURER
        ),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=_code("chest-xray", "Radiography of the chest"),
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    content[0].ContentSequence.append(
        sr.TextContentItem(
            name=codes.DCM.Comment,
            value=f"{BANNER}. {DISCLAIMER}",
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )
    )
    return sr.Comprehensive3DSR(
        evidence=[source], content=content[0], is_complete=True, **_equipment("SR", f"cxr-isnet report, {_SHORT}")
    )


def _code(value: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value=value[:64], scheme_designator=SCHEME, meaning=meaning[:64])


def _heatmap_capture(source: Dataset, picture: NDArray[np.uint8], line: str, turn: Turn) -> Dataset:
    """Secondary Capture of a picture, turned as the image was read, which refers to its source."""
    from highdicom.sc import SCImage

    result = SCImage.from_ref_dataset(
        source,
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=_UPRIGHT if turn else _orientation(source),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **_equipment("OT", f"cxr-isnet heatmap, {_SHORT}"),
    )
    result.copy_patient_and_study_information(source)
    result.Laterality = source.get("Laterality", "")  # type 2C (PS3.3, C.7.3.1)
    result.BurnedInAnnotation = "NO"  # of a person's identity; the banner and the class are burned in
    result.DerivationDescription = f"{BANNER}. Relevance for {line}"[:1024]
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    reference.PurposeOfReferenceCodeSequence = [purpose]
    result.SourceImageSequence = [reference]
    return result


def _orientation(source: Dataset) -> tuple[str, str]:
    value = source.get("PatientOrientation")
    axes = [str(axis) for axis in value] if isinstance(value, MultiValue) else []
    return (axes[0], axes[1]) if len(axes) == 2 and all(map(_AXES.fullmatch, axes)) else _UPRIGHT


def _lung_segmentation(source: Dataset, lungs: NDArray[np.uint8]) -> Dataset:
    """Segmentation of the lungs as one binary segment of the source's size."""
    from highdicom import AlgorithmIdentificationSequence, seg
    from pydicom.sr.codedict import codes

    segment = seg.SegmentDescription(
        segment_number=1,
        segment_label="Lungs",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.Lung,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=MANUFACTURER, family=codes.DCM.ArtificialIntelligence, version=__version__
        ),
    )
    result = seg.Segmentation(
        source_images=[source],
        pixel_array=lungs[None].astype(bool),
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        manufacturer_model_name=MANUFACTURER,
        software_versions=__version__,
        device_serial_number="0",
        content_label="LUNGS",
        content_description=BANNER,
        **_equipment("SEG", f"cxr-isnet lungs, {_SHORT}"),
    )
    result.PatientOrientation = list(_orientation(source))  # of an object without a frame of reference (PS3.3, C.7.6.1)
    return result
