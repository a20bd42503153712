import contextlib
import warnings
from pathlib import Path

import pytest

from cxr_isnet.imaging import sex
from cxr_isnet.manifests.source_parsing.demographics import frontal_view, with_header, years
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError
from cxr_isnet.manifests.source_parsing.source import Record
from tests.manifests.sources.files import dicom


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("PA", "PA"),
        ("ap", "AP"),
        ("AP Supine", "AP"),
        ("AP_horizontal", "AP"),
        ("APS", "AP"),
        (" Posteroanterior ", "PA"),
    ],
)
def test_frontal_views(text, view):
    assert frontal_view(text, keeps_unknown=False) == view


@pytest.mark.parametrize("text", ["LL", "Lateral", "L", "COSTAL", "Axial", "PAX"])
@pytest.mark.parametrize("keeps_unknown", [True, False])
def test_other_views_are_dropped(text, keeps_unknown):
    with pytest.raises(DroppedError, match=f"view '{text}' is not frontal"):
        frontal_view(text, keeps_unknown=keeps_unknown)


def test_an_unknown_view_is_kept_only_where_it_stands_for_a_frontal_one():
    assert frontal_view(" ", keeps_unknown=True) == ""
    with pytest.raises(DroppedError, match="view is unknown"):
        frontal_view("", keeps_unknown=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Female", "F"), ("m", "M"), ("w", "F"), ("O", "O"), ("Unknown", ""), ("", ""), ("nan", "")],
)
def test_sex(text, expected):
    assert sex(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("45", 45),
        ("45.0", 45),
        ("027Y", 27),
        ("45yrs", 45),
        ("18M", 1.5),
        ("24month", 2),
        ("026W", 0.5),
        ("73 days", 0.2),
        ("[67]", 67),
        ("", None),
        ("unknown", None),
        ("[]", None),
    ],
)
def test_years(text, expected):
    assert years(text) == expected


def record(image: Path, **given: object) -> Record:
    return Record(image, ("ill",), "p", "Alder", **given)


def test_what_the_publisher_does_not_give_comes_from_the_header(tmp_path):
    found = with_header(record(dicom(tmp_path / "a.dcm")))

    assert (found.view, found.sex, found.age) == ("PA", "F", 41)


def test_what_the_publisher_gives_stays(tmp_path):
    found = with_header(record(dicom(tmp_path / "a.dcm"), view="AP", sex="M", age=3.0))

    assert (found.view, found.sex, found.age) == ("AP", "M", 3)


def test_missing_tags_leave_cells_empty(tmp_path):
    bare = dicom(tmp_path / "a.dcm", ViewPosition=None, PatientSex=None, PatientAge="")

    found = with_header(record(bare))

    assert (found.view, found.sex, found.age) == ("", "", None)


@pytest.mark.parametrize(
    ("tags", "view"),
    [
        ({"ViewPosition": None, "SeriesDescription": "Thorax p.a."}, "PA"),
        ({"ViewPosition": None, "PatientOrientation": ["L", "F"]}, "frontal"),
        ({"ViewPosition": None, "SeriesDescription": "CHEST LATERAL"}, "lateral"),
        ({"ViewPosition": "POSTERO-ANTERIOR"}, "PA"),
    ],
)
def test_the_view_is_that_of_the_tags_that_intake_reads_too(tmp_path, tags, view):
    """PS3.3, C.8.1.2 and C.8.11.5: older files have no ViewPosition, and a lateral is told by its description."""
    assert with_header(record(dicom(tmp_path / "a.dcm", **tags))).view == view


def test_an_age_without_a_unit_is_read_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare = dicom(tmp_path / "a.dcm", PatientAge="51")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_header(record(bare)).age == 51


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"DICM"])
def test_what_is_not_dicom_drops_the_image(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)

    with pytest.raises(DroppedError, match="DICOM header cannot be read"):
        with_header(record(tmp_path / "a.dcm"))


def test_any_cut_of_a_header_is_read_or_dropped(tmp_path):
    whole = dicom(tmp_path / "whole.dcm").read_bytes()
    for end in range(128, len(whole)):
        (tmp_path / "cut.dcm").write_bytes(whole[:end])
        with contextlib.suppress(DroppedError):
            with_header(record(tmp_path / "cut.dcm"))
