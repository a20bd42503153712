import pytest

from cxr_isnet.manifests.source_parsing.demographics import frontal_view, sex, years
from cxr_isnet.manifests.source_parsing.labels import DroppedError


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


def test_an_untold_view_is_kept_only_where_it_stands_for_a_frontal_one():
    assert frontal_view(" ", keeps_unknown=True) == ""
    with pytest.raises(DroppedError, match="view is not told"):
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
