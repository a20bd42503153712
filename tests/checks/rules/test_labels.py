import pandas as pd
import pytest

from cxr_isnet.checks import Severity
from cxr_isnet.checks.rules.labels import find

from .test_confounding import scan_of_table


def findings(**columns):
    rows = {"image": ["a.png", "b.png", "c.png"], "mask": "", "patient_id": ["1", "2", "3"], "site": "Alder"}
    return list(find(scan_of_table(pd.DataFrame({**rows, "label": ["ill", "well", "ill"], **columns}))))


@pytest.mark.parametrize("other", ["covid", "Covid", "covid-19", "COVID 19"])
def test_a_class_of_several_spellings_is_an_error(other):
    first = "COVID_19" if "19" in other else "COVID"

    (found,) = findings(label=[first, "well", other])

    assert (found.check, found.severity, found.column) == ("labels", Severity.ERROR, "label")
    assert f"'{first}'" in found.message
    assert f"'{other}'" in found.message
    assert "give each one spelling" in found.message.lower()


def test_a_hospital_of_several_spellings_is_a_warning():
    (found,) = findings(site=["Alder Hospital", "ALDER  hospital", "Birch"])

    assert (found.severity, found.column) == (Severity.WARNING, "site")


def test_other_names_are_other_names():
    assert findings(label=["C+", "C-", "c"], site=["Alder 1", "Alder 2", "Alder"]) == []
