import numpy as np

from cxr_isnet.checks import Severity
from cxr_isnet.checks.rules.views import find
from tests.checks.conftest import save


def test_frontal_views_in_any_spelling_are_no_finding(hospital, scan_of):
    views = ["PA", "AP Supine", "", "pa", "frontal", "Chest AP portable"]

    assert list(find(scan_of(hospital.assign(view=views)))) == []


def test_other_views_are_named(hospital, scan_of):
    views = ["PA", "LL", "Lateral", "PA", "RLAT", ""]

    (finding,) = find(scan_of(hospital.assign(view=views)))

    assert (finding.column, finding.severity) == ("view", Severity.WARNING)
    assert [place.row for place in finding.places] == [2, 3, 5]


def test_a_picture_of_something_else_is_a_suspect(hospital, scan_of, tmp_path):
    y, x = np.mgrid[:100, :100] / 100
    save(tmp_path / "4.png", np.where(((x - 0.5) / 0.3) ** 2 + ((y - 0.5) / 0.35) ** 2 < 1, 0.8, 0.1))

    (finding,) = find(scan_of(hospital))

    assert finding.severity is Severity.WARNING
    assert finding.places[0].row == 5
    assert "suspect" in finding.message
