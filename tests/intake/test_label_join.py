from pathlib import Path

import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.intake.import_log import AcceptedRow
from cxr_isnet.intake.label_join import read_label_table
from cxr_isnet.intake.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"sixteen bytes ok")
ROOT = Path("/archive")


def row(patient="7", accession="A7", file="x/7"):
    names = [PSEUDONYMS.of(*pair) for pair in (("patient", patient), ("accession", accession))]
    return AcceptedRow(PSEUDONYMS.of_file(ROOT, file), *names, record={}, repeated=False)


@pytest.fixture
def labels(tmp_path):
    def read(text):
        (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
        return read_label_table(str(tmp_path / "labels.csv"), "unlabelled", PSEUDONYMS, ROOT)

    return read


@pytest.mark.parametrize("table", ["patient_id,label\n7,ill\n", "label,accession\nill,A7\n", "file,label\nx/7,ill\n"])
def test_labels_by_patient_examination_or_file(labels, table):
    found = labels(table)

    assert found.label_of(row()) == "ill"
    assert found.label_of(row("8", "A8", "x/8")) == "unlabelled"


def test_without_a_table_every_image_has_the_given_label():
    assert read_label_table(None, "normal", PSEUDONYMS, ROOT).label_of(row()) == "normal"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("patient_id,diagnosis\n7,ill\n", "needed are 'label' and exactly one of"),
        ("patient_id,accession,label\n7,A7,ill\n", "exactly one of"),
        ("patient_id,label\n7,ill\n7,normal\n", "row 2: column 'patient_id' was given another label before"),
        ("patient_id,label\n7,\n", "row 1: .*is empty"),
    ],
)
def test_tables_that_do_not_do(labels, table, message):
    with pytest.raises(InputError, match=message):
        labels(table)


def test_missing_table(tmp_path):
    with pytest.raises(InputError, match="not a readable table"):
        read_label_table(str(tmp_path / "gone.csv"), "unlabelled", PSEUDONYMS, ROOT)
