import pytest

from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError, LabelMapping

LABELS = LabelMapping(
    {"No Finding": "normal", "Pneumonia": "other_pneumonia", "TB": "tuberculosis"},
    ignored=frozenset({"Pacemaker"}),
    excluding=frozenset({"blurred"}),
)
TREE = LabelMapping({"Pneumonia/Viral/COVID-19": "covid", "Pneumonia/Fungal": "other_pneumonia"}, hierarchy="/")


@pytest.mark.parametrize(
    ("findings", "uncertain", "expected"),
    [
        (("No Finding",), (), "normal"),
        (("Pneumonia", "Effusion", "Mass"), (), "other_pneumonia"),
        (("No Finding", "Pacemaker", ""), (), "normal"),
        (("Pneumonia",), ("Effusion", "Pacemaker"), "other_pneumonia"),
        (("Pneumonia", "Pneumonia"), (), "other_pneumonia"),
    ],
)
def test_labels_that_name_one_class(findings, uncertain, expected):
    assert LABELS.class_of(findings, uncertain) == expected


@pytest.mark.parametrize(
    ("findings", "uncertain", "reason"),
    [
        ((), (), "no label"),
        (("", "Pacemaker"), (), "no label"),
        (("Effusion",), (), "label 'Effusion' has no class"),
        (("Effusion", "Mass"), (), "several labels, none has a class"),
        (("No Finding", "Effusion"), (), "'normal' beside another label"),
        (("Pneumonia", "TB"), (), "labels of several classes: other_pneumonia [+] tuberculosis"),
        (("TB",), ("Pneumonia",), "label 'Pneumonia' is uncertain"),
        (("Pneumonia", "blurred"), (), "label 'blurred' excludes the image"),
    ],
)
def test_labels_that_name_no_class_or_several(findings, uncertain, reason):
    with pytest.raises(DroppedError, match=f"^{reason}$"):
        LABELS.class_of(findings, uncertain)


def test_in_a_tree_a_branch_takes_its_parents_class():
    assert TREE.class_of(("Pneumonia/Fungal/Pneumocystis/severe",)) == "other_pneumonia"
    assert TREE.class_of(("Pneumonia/Viral/COVID-19",)) == "covid"


@pytest.mark.parametrize("label", ["Pneumonia", "Pneumonia/Viral", "Fungal", "Pneumonia/Viral/SARS"])
def test_in_a_tree_a_parent_or_a_sibling_has_no_class(label):
    with pytest.raises(DroppedError, match="has no class"):
        TREE.class_of((label,))


def test_without_classes_a_label_is_its_own():
    assert LabelMapping(None).class_of(("sarcoidosis",)) == "sarcoidosis"
