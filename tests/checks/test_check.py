from cxr_isnet.checks import CHECKS


def test_the_checks_are_in_the_order_of_the_report():
    assert [check.name for check in CHECKS] == [
        "confounding",
        "controls",
        "duplicates",
        "files",
        "labels",
        "masks",
        "patients",
        "views",
    ]
