from cxr_isnet.checks import CHECKS


def test_the_checks_of_the_package_are_found_without_being_listed_anywhere():
    assert [check.name for check in CHECKS] == [
        "confounding",
        "crops",
        "duplicates",
        "files",
        "masks",
        "patients",
        "views",
    ]
