import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifest
from cxr_isnet.manifests.column_mapping import ColumnMapping, read_column_mapping
from cxr_isnet.tables import read_table

MAPPING = """
table: {table}
columns: {{image: image, label: finding, patient_id: patient_id}}
constants: {{site: Birch}}
where: {{finding: [ill, normal], view: PA}}
"""


@pytest.fixture
def folder(rows, tmp_path):
    """Another table, in `other/`, beside the images."""
    other = rows.rename(columns={"label": "finding"}).assign(view=["PA", "PA", "PA", "LL"])
    other.to_csv(tmp_path / "other.csv", index=False)
    return tmp_path


def test_mapping_selects_renames_and_completes(folder):
    (folder / "mapping.yaml").write_text(MAPPING.format(table="other.csv"))

    frame = read_manifest(folder / "mapping.yaml")

    assert frame["label"].tolist() == ["normal", "ill", "normal"]
    assert set(frame["site"]) == {"Birch"}
    assert list(frame.columns) == ["image", "label", "patient_id", "site", "mask", "split"]
    assert frame["image"][0] == str(folder / "a.png")


def test_without_columns_all_are_taken_under_their_names(folder):
    other = read_table(folder / "other.csv").rename(columns={"finding": "label"})
    other.assign(site="Birch", ward="3").to_csv(folder / "manifest.csv", index=False)
    (folder / "mapping.yaml").write_text("table: manifest.csv\nwhere: {view: PA}\nconstants: {site: Alder}\n")

    frame = read_manifest(folder / "mapping.yaml")

    assert frame["label"].tolist() == ["normal", "ill", "normal"]
    assert (set(frame["site"]), set(frame["ward"])) == ({"Alder"}, {"3"})
    assert frame["mask"][0] == str(folder / "a_mask.png")


@pytest.mark.parametrize("table", ["${FOLDER_OF_TEST}/other.csv", "${FOLDER_NOT_SET:-.}/other.csv"])
def test_variables_are_expanded_from_the_working_directory(folder, monkeypatch, tmp_path_factory, table):
    monkeypatch.setenv("FOLDER_OF_TEST", str(folder))
    monkeypatch.chdir(folder)
    mapping = tmp_path_factory.mktemp("elsewhere") / "mapping.yaml"
    mapping.write_text(MAPPING.format(table=table))

    assert len(read_manifest(mapping)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "needs the key 'table'"),
        ("columns: {image: image}", "needs the key 'table'"),
        ("table: other.csv", "column 'label' is missing"),
        ("table: [", "not a readable column mapping"),
        ("table: other.csv\ncolumns: {image: image}\nfilter: {}", "unknown key filter"),
        ("table: other.csv\ncolumns: [image]", "key 'columns' holds"),
        ("table: other.csv\ncolumns: {image: path}", "column 'path' is not in"),
        ("table: other.csv\ncolumns: {image: image}\nwhere: {view: AP}", "no row of .* where column 'view'"),
        (
            "table: ${NO_SUCH_VARIABLE}/other.csv\ncolumns: {image: image}",
            "Set the variable NO_SUCH_VARIABLE",
        ),
        ("table: other.csv\ncolumns: {image: image}", "column 'label', 'patient_id', 'site' is missing"),
        ("table: gone.csv\ncolumns: {image: image}", "no such table"),
    ],
)
def test_bad_mapping_says_what_is_wrong(folder, text, message):
    (folder / "mapping.yaml").write_text(text)

    with pytest.raises(InputError, match=message):
        read_manifest(folder / "mapping.yaml")


def test_tenths_share_out_the_patients_and_never_change(tmp_path):
    rows = [f"{i}.png,ill,patient {i // 2}" for i in range(400)]
    (tmp_path / "other.csv").write_text("\n".join(["image,label,pid", *rows]))

    def patients(tenths):
        mapping = ColumnMapping(
            tmp_path / "other.csv", {"patient_id": "pid"}, where={"patient_tenth": tuple(map(str, tenths))}
        )
        frame = pd.read_csv(tmp_path / "other.csv", dtype=str)
        return mapping.apply(frame, "mapping.yaml")["patient_id"].tolist()

    parts = [patients([tenth]) for tenth in range(10)]

    assert sorted(patient for part in parts for patient in part) == sorted(f"patient {i // 2}" for i in range(400))
    assert all(not set(first) & set(second) for i, first in enumerate(parts) for second in parts[:i])
    assert all(20 <= len(part) <= 70 for part in parts)
    assert patients([8, 9]) == [p for p in patients(range(10)) if p in {*parts[8], *parts[9]}]
    assert (parts[0][0], parts[8][0]) == ("patient 7", "patient 0")  # of the digests, once and for all


def test_tenths_need_a_column_of_patients(tmp_path):
    mapping = ColumnMapping(tmp_path / "other.csv", {"image": "image"}, where={"patient_tenth": ("0",)})

    with pytest.raises(InputError, match="has no column 'patient_id'"):
        mapping.apply(pd.DataFrame({"image": ["a.png"]}), "mapping.yaml")


def test_columns_may_differ_in_capitals_and_values_in_the_way_that_pandas_writes_whole_numbers(tmp_path):
    content = "Path;Finding;Patient No;Ward;Quality\na.png;ill;1;Alder;1,0\nb.png;ill;2;Alder;2,0\n"
    (tmp_path / "other.csv").write_text(content)
    columns = "{image: path, label: finding, patient_id: patient_no, site: ward}"
    (tmp_path / "m.yaml").write_text(f"table: other.csv\ncolumns: {columns}\nwhere: {{quality: [1.0]}}\n")
    mapping = read_column_mapping(tmp_path / "m.yaml")

    frame = mapping.apply(read_table(mapping.table), "m.yaml")

    assert frame.values.tolist() == [["a.png", "ill", "1", "Alder"]]


def test_rows_are_left_out_and_counted(folder, caplog):
    caplog.set_level("INFO")
    (folder / "mapping.yaml").write_text(MAPPING.format(table="other.csv") + "leave_out: {patient_id: [03, '02']}\n")

    frame = read_manifest(folder / "mapping.yaml")

    assert frame["patient_id"].tolist() == ["01", "01"]
    assert "mapping.yaml: 1 of 3 rows are left out, whose 'patient_id' is 03, 02" in caplog.text


def test_a_column_to_leave_rows_out_by_must_be_there(folder):
    (folder / "mapping.yaml").write_text("table: other.csv\nleave_out: {quality: bad}\n")

    with pytest.raises(InputError, match=r"column 'quality' is not in .*other\.csv"):
        read_manifest(folder / "mapping.yaml")


@pytest.mark.realdata
def test_the_real_nih_pneumonias_that_rsna_calls_normal_are_left_out(published_sets, caplog):
    caplog.set_level("INFO")

    frame = read_manifest("data_manifests/covid_nih.yaml")

    assert "57 of 1000 rows are left out, whose 'note' is called_normal_by_rsna" in caplog.text
    assert frame["label"].value_counts().to_dict() == {"normal": 500, "other_pneumonia": 443}
