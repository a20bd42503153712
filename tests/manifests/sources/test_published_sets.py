"""What holds for every published set, on a miniature of its layout."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_isnet.data import read_pair
from cxr_isnet.errors import InputError
from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.source_parsing.source import Diagnosis, TableOptions
from cxr_isnet.manifests.sources import find_source

from . import conftest  # noqa: F401 it fills MINIATURES
from .miniature import MINIATURES

pytestmark = pytest.mark.parametrize("name", sorted(MINIATURES))


def test_labels_are_mapped_and_what_is_dropped_is_counted(built, name):
    expected, (report, frame) = MINIATURES[name], (built(name).report, built(name).frame)

    assert Counter(frame["label"]) == expected.labels == report.labels
    assert set(frame["label"]) <= {str(diagnosis) for diagnosis in Diagnosis}
    assert report.dropped == expected.dropped


def test_patients_are_distinct_and_have_one_site_and_sex(built, name):
    frame = built(name).frame

    assert frame["patient_id"].nunique() == built(name).report.patients == MINIATURES[name].patients
    assert (frame.groupby("patient_id")["site"].nunique() == 1).all()
    assert "Name^Of^A^Person" not in built(name).table.read_text()


def test_every_image_and_mask_can_be_read_and_is_no_negative(built, name):
    """A phantom's lungs are darker than what lies between them."""
    for image, mask in built(name).frame[["image", "mask"]].itertuples(index=False):
        pixels, _ = read_pair(image, mask)
        middle, half = pixels.shape[0] // 2, pixels.shape[1] // 2
        assert pixels[middle, half] > pixels[middle, half // 2] + 0.2, image


def test_what_macos_leaves_beside_files_is_not_of_the_set(built, name, tmp_path):
    """`._a.png` on disks of other kinds, `__MACOSX` in archives: AppleDouble files (RFC 1740), not images or tables."""
    shutil.copytree(built(name).root, tmp_path / "set")
    for path in [path for path in (tmp_path / "set").rglob("*") if path.is_file()]:
        twin = tmp_path / "set/__MACOSX" / path.relative_to(tmp_path / "set")
        twin.parent.mkdir(parents=True, exist_ok=True)
        for place in (path, twin):
            place.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")

    report = build_manifest(find_source(name), tmp_path / "set", tmp_path / "a.csv")

    assert (report.labels, report.dropped) == (built(name).report.labels, built(name).report.dropped)


def test_rows_are_sorted_paths_relative_and_views_frontal(built, name):
    images = pd.read_csv(built(name).table)["image"].tolist()

    assert images == sorted(images)
    assert not any(Path(image).is_absolute() for image in images)
    assert built(name).frame["view"].isin(["PA", "AP", ""]).all()


def test_a_mask_has_the_size_of_its_image(built, name):
    rows = built(name).frame.query("mask != ''")

    assert len(rows) == MINIATURES[name].masks == built(name).report.masks
    for image, mask in zip(rows["image"], rows["mask"], strict=True):
        assert Image.open(image).size == Image.open(mask).size
        assert np.asarray(Image.open(mask)).max() == 255


def test_the_same_folder_gives_the_same_bytes(built, name, tmp_path):
    again = built(name).table.with_name("again.csv")

    build_manifest(find_source(name), built(name).root, again)

    text = again.read_text().replace("again_masks", f"{name}_masks").replace("again_rendered", f"{name}_rendered")
    assert text == built(name).table.read_text()


def test_another_layout_says_what_was_expected_and_found(name, tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "readme.txt").touch()
    source = find_source(name)

    with pytest.raises(InputError) as error:
        build_manifest(source, tmp_path, tmp_path / "table.csv")

    assert f"not laid out as {source.title} is published. Missing: " in str(error.value)
    assert "Found: holiday/, readme.txt. Expected:\n" + source.layout in str(error.value)
    assert not (tmp_path / "table.csv").exists()


def test_options_of_folder_and_table_are_an_error(name, tmp_path):
    with pytest.raises(InputError, match=rf"source '{name}' has labels of its own: leave out constants"):
        build_manifest(
            find_source(name), Path(tmp_path), tmp_path / "table.csv", options=TableOptions(constants={"site": "A"})
        )


def test_licence_and_citation_are_reported(built, name):
    source, report = find_source(name), built(name).report

    assert (report.licence, report.citation) == (source.licence, source.citation)
    assert built(name).frame["licence"].ne("").all()
