import pytest

from cxr_isnet.checks import checks, register
from cxr_isnet.checks import rules as rules_package


def test_checks_are_found_by_themselves(tmp_path, monkeypatch, hospital, survey_of):
    (tmp_path / "check_of_a_colleague.py").write_text(
        "from cxr_isnet.checks import Finding, Severity, register\n"
        "@register('colleague', 'somebody had an idea')\n"
        "def find(survey):\n"
        "    yield Finding('colleague', Severity.INFO, f'{len(survey.frame)} rows')\n"
    )
    monkeypatch.setattr("cxr_isnet.checks.registry._CHECKS", {})
    monkeypatch.setattr(rules_package, "__path__", [str(tmp_path)])

    (found,) = checks()

    assert [finding.message for finding in found.find(survey_of(hospital))] == ["6 rows"]


def test_the_checks_of_the_package():
    assert [check.name for check in checks()] == [
        "confounding",
        "crops",
        "duplicates",
        "files",
        "masks",
        "patients",
        "views",
    ]


def test_a_name_is_given_once():
    checks()

    with pytest.raises(ValueError, match="files"):
        register("files", "again")(lambda survey: ())
