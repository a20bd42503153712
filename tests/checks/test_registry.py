from cxr_isnet.checks import CHECKS


def test_the_checks_of_the_package_are_found_without_being_listed_anywhere():
    assert list(CHECKS.all()) == ["confounding", "crops", "duplicates", "files", "masks", "patients", "views"]
