import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifest
from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.source_parsing.source import TableOptions
from cxr_isnet.manifests.sources import find_source

from .files import picture, table

COLUMNS = {"image": "path", "label": "finding", "patient_id": "pid", "mask": "lungs", "view": "view", "age": "years"}


@pytest.fixture
def other(tmp_path):
    """Another group's table beside its images."""
    for name in ("a", "b", "c", "d"):
        picture(tmp_path / "pictures" / f"{name}.png")
    picture(tmp_path / "lungs" / "a.png", grey=255)
    rows = [
        ("a", "TB", "lungs/a.png", "AP Supine", "027Y"),
        ("b", "healthy", "lungs/gone.png", "", ""),
        ("c", "healthy", "", "LL", "300"),
        ("d", "unclear", "", "PA", "5"),
    ]
    names = ("path", "finding", "lungs", "view", "years")
    described = [dict(zip(names, (f"pictures/{r[0]}.png", *r[1:]), strict=True)) for r in rows]
    return table(tmp_path / "other.csv", [{**row, "pid": number, "part": "x"} for number, row in enumerate(described)])


def build(root, output, labels=None, **options):
    return build_manifest(find_source("table"), root, output, options=TableOptions(**options), labels=labels)


def test_columns_are_mapped_and_labels_translated(other, tmp_path):
    output = tmp_path / "elsewhere" / "table.csv"

    report = build(
        other, output, {"TB": "tuberculosis", "healthy": "normal"}, columns=COLUMNS, constants={"site": "Alder"}
    )

    frame = read_manifest(output)
    assert frame["label"].tolist() == ["tuberculosis", "normal"]
    assert frame["view"].tolist() == ["AP", ""]
    assert frame["age"].iloc[0] == 27
    assert frame["mask"].tolist() == [str(tmp_path / "lungs" / "a.png"), ""]
    assert report.dropped == {"view 'LL' is not frontal": 1, "label 'unclear' has no class": 1}
    assert report.notes == {"mask file is missing": 1}


def test_without_a_mapping_every_label_is_a_class(other, tmp_path):
    report = build(other, tmp_path / "table.csv", columns=COLUMNS, constants={"site": "Alder"})

    assert report.labels == {"TB": 1, "healthy": 1, "unclear": 1}
    assert read_manifest(tmp_path / "table.csv")["licence"].tolist() == [""] * 3
    assert "licence" not in report.summary()


def test_rows_are_chosen_by_value(other, tmp_path):
    report = build(
        other, tmp_path / "t.csv", columns=COLUMNS, constants={"site": "A"}, where={"finding": ["TB", "unclear"]}
    )

    assert report.labels == {"TB": 1, "unclear": 1}


def test_a_manifest_comes_back_as_it_was(other, tmp_path):
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    build(other, first, columns=COLUMNS | {"group": "part"}, constants={"site": "A", "split": "test"})

    build(first, second)

    assert second.read_text().partition("\n")[2] == first.read_text().partition("\n")[2]


def test_a_column_mapping_is_a_table(other, tmp_path):
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "table: other.csv\ncolumns: {image: path, label: finding, patient_id: pid}\nconstants: {site: Alder}\n"
    )

    assert build(mapping, tmp_path / "table.csv").rows == 4
    with pytest.raises(InputError, match=r"mapping\.yaml: a column mapping has no options: leave out where"):
        build(mapping, tmp_path / "table.csv", where={"finding": ["TB"]})


def test_a_column_that_is_needed_is_named(other, tmp_path):
    with pytest.raises(InputError, match=r"other\.csv: column 'site' is missing"):
        build(other, tmp_path / "table.csv", columns=COLUMNS)
    with pytest.raises(InputError, match=r"column 'hospital' is not in .*other\.csv"):
        build(other, tmp_path / "table.csv", columns=COLUMNS | {"site": "hospital"})


def test_the_table_itself_is_not_overwritten(other):
    with pytest.raises(InputError, match="is the table that is read"):
        build(other, other, columns=COLUMNS, constants={"site": "Alder"})


@pytest.mark.realdata
def test_the_real_table_of_radiographs(real_data_folder, tmp_path):
    columns = {"image": "path", "mask": "mask", "label": "label", "patient_id": "patient_id", "site": "location"}

    report = build(
        real_data_folder / "manifest.csv",
        tmp_path / "tb.csv",
        columns=columns | {"view": "view", "licence": "licence"},
        where={"split": ["tb_train", "tb_external"]},
    )

    assert (report.rows, report.patients, report.sites, report.masks) == (800, 800, 2, 704)
    assert report.labels == {"normal": 406, "tuberculosis": 394}
    assert not report.dropped
    assert len(read_manifest(tmp_path / "tb.csv")) == 800
