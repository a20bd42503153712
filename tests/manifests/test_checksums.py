import hashlib

import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import digest
from cxr_isnet.manifests.checksums import checksum_problems
from cxr_isnet.manifests.problems import raise_first


def test_digest_of_a_table_is_that_of_its_bytes(rows, write_table):
    path = write_table(rows)

    assert digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_digest_of_a_column_mapping_changes_with_mapping_and_table(rows, write_table, tmp_path):
    table = write_table(rows)
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("table: table.csv\ncolumns: {image: image}\n")
    seen = {digest(mapping)}

    write_table(rows.iloc[:2])
    seen.add(digest(mapping))
    mapping.write_text("table: table.csv\ncolumns: {image: image, label: label}\n")
    seen.add(digest(mapping))

    assert len(seen) == 3
    assert digest(table) not in seen


def test_digest_of_several_tables_changes_with_the_last_of_them(tmp_path):
    tables = [tmp_path / f"{number}.csv" for number in range(4)]
    for table in tables:
        table.write_text("image,label\n")
    before = digest(*tables)
    tables[-1].write_text("image,label,site\n")

    assert digest(*tables) != before


def test_digest_of_a_missing_table(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv"):
        digest(tmp_path / "gone.csv")


def test_right_and_unknown_digests_are_no_problem():
    frame = pd.DataFrame({"image": ["a.png", "b.png", "c.png"], "sha256": ["1f", "", "2e"]})

    assert list(checksum_problems(frame, ["1f", "77", ""], "table.csv")) == []


def test_a_wrong_digest_names_the_file():
    frame = pd.DataFrame({"image": ["a.png", "b.png"], "sha256": ["1f", "2e"]})

    (problem,) = checksum_problems(frame, ["1f", "77"], "table.csv")

    with pytest.raises(InputError, match=r"table\.csv: column 'sha256' differs.*b\.png"):
        raise_first([problem])
