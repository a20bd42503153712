import hashlib

import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import digest, read_manifest, verify_checksums


def test_digest_of_a_table_is_that_of_its_bytes(rows, write_table):
    path = write_table(rows)

    assert digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_digest_of_a_recipe_changes_with_recipe_and_table(rows, write_table, tmp_path):
    table = write_table(rows)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("table: table.csv\ncolumns: {image: image}\n")
    seen = {digest(recipe)}

    write_table(rows.iloc[:2])
    seen.add(digest(recipe))
    recipe.write_text("table: table.csv\ncolumns: {image: image, label: label}\n")
    seen.add(digest(recipe))

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


def test_right_and_empty_checksums_pass(rows, write_table):
    right = hashlib.sha256(b"a").hexdigest()

    verify_checksums(read_manifest(write_table(rows.assign(sha256=[right, "", "", ""]))), "table.csv")


def test_wrong_checksum_names_the_file(rows, write_table):
    wrong = hashlib.sha256(b"something else").hexdigest()
    frame = read_manifest(write_table(rows.assign(sha256=["", wrong, "", ""])))

    with pytest.raises(InputError, match=r"table\.csv: column 'sha256' differs.*b\.png"):
        verify_checksums(frame, "table.csv")
