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


def test_unknown_source(tmp_path):
    with pytest.raises(InputError, match="source is 'chest'"):
        build(BuildConfig("chest", str(tmp_path), "t.csv"))


def test_sources_list_layout_labels_and_terms():
    everything, one = list_sources(SourcesConfig()), list_sources(SourcesConfig("brixia"))

    assert one in everything
    assert "    dicom_clean/<Filename>\n" in one
    assert "labels: COVID-19 patient -> covid\n" in one
    assert list_sources(SourcesConfig("folder")).endswith("\n  labels: each its own class")
