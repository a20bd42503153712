import pytest

from cxr_isnet.commands.manifest import BuildConfig, SourcesConfig, build, list_sources
from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifest
from tests.manifests.sources.miniatures_tuberculosis import shenzhen


def test_build_writes_the_table_and_reports_what_is_in_it(tmp_path):
    shenzhen(tmp_path)
    output = tmp_path / "tables" / "shenzhen.csv"

    summary = build(BuildConfig("shenzhen", str(tmp_path), str(output), checksums=True))

    assert len(read_manifest(output)) == 3
    assert f"{output}: 3 images, 3 patients, 1 sites, 2 lung masks\n        2  normal\n" in summary
    assert "licence: NLM research set" in summary
    assert "cite: Jaeger et al." in summary


def test_labels_are_added_to_a_sets_own(tmp_path):
    shenzhen(tmp_path)

    summary = build(BuildConfig("shenzhen", str(tmp_path), str(tmp_path / "t.csv"), labels={"1": "ill"}))

    assert "        1  ill\n        2  normal\n" in summary


def test_a_public_set_lies_in_the_data_folder_unless_another_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_ISNET_DATA", str(tmp_path / "sets"))
    shenzhen(tmp_path / "sets" / "shenzhen")

    build(BuildConfig("shenzhen"))

    frame = read_manifest(tmp_path / "sets" / "shenzhen" / "manifest.csv")
    assert frame["image"][0] == str(tmp_path / "sets/shenzhen/ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png")


def test_a_public_set_that_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_ISNET_DATA", str(tmp_path))

    with pytest.raises(InputError, match=r"shenzhen: there is no such folder.*manifest build shenzhen FOLDER"):
        build(BuildConfig("shenzhen"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BuildConfig("table"), "'table' needs a table to read: cxr-isnet manifest build table TABLE -o OUTPUT.csv"),
        (BuildConfig("table", "a.csv"), "'table' needs a manifest to write: cxr-isnet manifest build table TABLE"),
        (BuildConfig("folder", output="a.csv"), "'folder' needs a folder to read: cxr-isnet manifest build folder"),
    ],
)
def test_other_tables_and_folders_have_no_place_of_their_own(config, message):
    with pytest.raises(InputError, match=message):
        build(config)


def test_unknown_source(tmp_path):
    with pytest.raises(InputError, match="source is 'chest'"):
        build(BuildConfig("chest", str(tmp_path), "t.csv"))


def test_sources_list_layout_labels_and_terms():
    everything, one = list_sources(SourcesConfig()), list_sources(SourcesConfig("brixia"))

    assert one in everything
    assert "    dicom_clean/<Filename>\n" in one
    assert "labels: COVID-19 patient -> covid\n" in one
    assert list_sources(SourcesConfig("folder")).endswith("\n  labels: each its own class")
