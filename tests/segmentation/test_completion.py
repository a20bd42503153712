"""Completion of a manifest: given masks stay, flagged ones are left out, an interruption leaves no trace."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_isnet.imaging import read_mask
from cxr_isnet.manifests import read_manifest
from cxr_isnet.segmentation import QualityLimits, Segmenter, completion
from cxr_isnet.segmentation.completion import MaskCounts, MaskStore, complete_masks
from cxr_isnet.segmentation.mask_prediction import PredictedMask
from cxr_isnet.segmentation.overlays import contact_sheet
from cxr_isnet.segmentation.quality import MaskQuality

from .conftest import MODEL, two_lungs

ONE_LUNG = two_lungs(100, 60)
ONE_LUNG[:, 30:] = 0


@pytest.fixture
def manifest(write_xrays) -> Path:
    """A given mask, two images to be predicted, one on which only one lung is seen."""
    return write_xrays(
        [two_lungs(), two_lungs(), two_lungs(130, 70), ONE_LUNG],
        [two_lungs(top=0.5), None, None, None],
        mask_source=["drawn", "", "", ""],
    )


@pytest.fixture
def complete(bright: Segmenter, tmp_path: Path) -> Callable[..., MaskCounts]:
    def run(manifest: Path, output: str = "completed", *, overwrite: bool = False, batch_size: int = 2) -> MaskCounts:
        frame = read_manifest(manifest)
        folder = tmp_path / output
        return complete_masks(
            bright, frame, folder, QualityLimits(), overwrite=overwrite, batch_size=batch_size, workers=0
        )

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_new_manifest_holds_given_and_accepted_masks_and_says_which_is_which(complete, manifest, tmp_path):
    counts = complete(manifest)

    table = read_manifest(tmp_path / "completed" / "manifest.csv")
    assert counts == MaskCounts(images=4, given=1, predicted=2, flagged=1, unreadable=0)
    predicted = f"predicted by {MODEL[:16]}"
    assert list(table["mask_source"]) == ["drawn", predicted, predicted, ""]
    assert np.array_equal(read_mask(table["mask"][0]), two_lungs(top=0.5))
    assert table["mask"][3] == ""
    assert list(table["image"]) == list(read_manifest(manifest)["image"])


def test_a_predicted_mask_has_its_image_s_size_and_lies_on_its_lungs(complete, manifest, tmp_path):
    complete(manifest)

    mask = read_mask(read_manifest(tmp_path / "completed" / "manifest.csv")["mask"][2])
    expected = two_lungs(130, 70)
    assert mask.shape == expected.shape
    assert (mask != expected).mean() < 0.03


def test_a_flagged_mask_is_listed_with_its_quality_flags_and_an_overlay(complete, manifest, tmp_path):
    complete(manifest)

    flagged = pd.read_csv(tmp_path / "completed" / "flagged.csv")
    assert [Path(path).name for path in flagged["image"]] == ["x3.png"]
    assert flagged["quality_flags"][0] == "lungs 1"
    assert (tmp_path / "completed" / flagged["overlay"][0]).is_file()
    assert (tmp_path / "completed" / flagged["predicted_mask"][0]).is_file()
    assert len(list((tmp_path / "completed" / "overlays").iterdir())) == 1


def test_a_contact_sheet_of_accepted_masks_is_empty_when_nothing_was_to_be_predicted(complete, write_xrays, tmp_path):
    counts = complete(write_xrays([two_lungs()], [two_lungs()]))

    assert counts == MaskCounts(images=1, given=1, predicted=0, flagged=0, unreadable=0)
    assert (tmp_path / "completed" / "accepted.png").is_file()
    assert len(pd.read_csv(tmp_path / "completed" / "flagged.csv")) == 0


def test_the_contact_sheet_shows_the_accepted_masks_alone(complete, manifest, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        completion, "contact_sheet", lambda tiles, title: drawn.append((tiles, title)) or contact_sheet(tiles, title)
    )

    complete(manifest)

    ((tiles, title),) = drawn
    assert title == "2 of 2 accepted masks"
    assert {tile.image.shape for tile in tiles} == {(96, 80), (130, 70)}


def test_every_predicted_mask_is_scored(complete, manifest, tmp_path):
    complete(manifest)

    quality = pd.read_csv(tmp_path / "completed" / "quality.csv", keep_default_na=False)
    assert [Path(path).name for path in quality["image"]] == ["x1.png", "x2.png", "x3.png"]
    assert quality["agreement"].between(0.9, 1).all()
    assert list(quality["lungs"]) == [2, 2, 1]


def test_given_masks_are_replaced_only_when_asked(complete, manifest, tmp_path):
    counts = complete(manifest, overwrite=True)

    table = read_manifest(tmp_path / "completed" / "manifest.csv")
    assert counts.given == 0
    assert (read_mask(table["mask"][0]) != two_lungs()).mean() < 0.03
    assert table["mask_source"][0].startswith("predicted by ")


def test_a_completed_manifest_can_be_completed_again_and_its_predicted_masks_are_not_taken_for_given(
    complete, manifest, tmp_path
):
    complete(manifest)

    counts = complete(tmp_path / "completed" / "manifest.csv", "again")

    assert counts == MaskCounts(images=4, given=1, predicted=2, flagged=1, unreadable=0)


def test_without_a_column_of_sources_a_given_mask_is_called_given(complete, write_xrays, tmp_path):
    complete(write_xrays([two_lungs()] * 2, [two_lungs(), None]))

    assert pd.read_csv(tmp_path / "completed" / "manifest.csv")["mask_source"][0] == "given"


def test_a_second_run_predicts_nothing_and_changes_nothing(complete, manifest, bright, tmp_path):
    complete(manifest)
    before, calls = contents(tmp_path / "completed"), bright.network.calls

    complete(manifest)

    assert bright.network.calls == calls
    assert contents(tmp_path / "completed") == before


@pytest.mark.parametrize("masks_before_the_kill", [0, 1, 2])
def test_a_run_that_was_killed_and_started_again_ends_like_an_undisturbed_one(
    complete, manifest, bright, tmp_path, monkeypatch, masks_before_the_kill
):
    complete(manifest, "whole")
    write, written = MaskStore.write, []

    def write_and_die(store, *arguments):
        if len(written) == masks_before_the_kill:
            raise KeyboardInterrupt
        written.append(arguments)
        write(store, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(MaskStore, "write", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            complete(manifest, "killed")
    assert not (tmp_path / "killed" / "manifest.csv").exists()

    complete(manifest, "killed", batch_size=1)

    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_another_segmenter_s_masks_are_predicted_anew(complete, manifest, bright, tmp_path):
    complete(manifest)
    bright.digest = "f" * 64

    complete(manifest)

    sources = read_manifest(tmp_path / "completed" / "manifest.csv")["mask_source"]
    assert sources[1] == "predicted by " + "f" * 16


def test_an_image_that_changed_is_predicted_anew_and_its_old_flag_is_gone(complete, manifest, tmp_path):
    complete(manifest)
    Image.fromarray(two_lungs(100, 60) * np.uint8(255)).save(manifest.parent / "x3.png")

    counts = complete(manifest)

    assert counts.flagged == 0
    assert list((tmp_path / "completed" / "overlays").iterdir()) == []
    assert read_manifest(tmp_path / "completed" / "manifest.csv")["mask"][3] != ""


def test_an_unreadable_image_is_listed_and_does_not_stop_the_others(complete, manifest, tmp_path):
    (manifest.parent / "x1.png").write_bytes(b"<html>")

    counts = complete(manifest)

    flagged = pd.read_csv(tmp_path / "completed" / "flagged.csv", keep_default_na=False)
    assert counts == MaskCounts(images=4, given=1, predicted=1, flagged=1, unreadable=1)
    assert flagged["quality_flags"][0].startswith("unreadable: ")
    assert (flagged["predicted_mask"][0], flagged["overlay"][0]) == ("", "")


def test_no_file_that_is_written_is_named_after_a_patient_or_an_image(complete, manifest, tmp_path):
    (manifest.parent / "x3.png").rename(manifest.parent / "DOE-JANE.png")
    manifest.write_text(manifest.read_text().replace("x3.png", "DOE-JANE.png"))

    complete(manifest)

    assert not [path for path in (tmp_path / "completed").rglob("*") if "DOE" in path.name]


IMAGE = "a" * 64
LUNGS = PredictedMask(two_lungs(), MaskQuality(0.31, 2, 0.87, 0.01, 0.02, 0.953))


@pytest.fixture
def store(tmp_path) -> MaskStore:
    return MaskStore(tmp_path, MODEL)


def test_a_kept_mask_comes_back_with_what_was_measured_on_it(store):
    store.write(IMAGE, LUNGS)

    assert store.quality(IMAGE) == LUNGS.quality
    assert np.array_equal(read_mask(store.path(IMAGE)), LUNGS.mask)
    assert set(np.unique(np.asarray(Image.open(store.path(IMAGE))))) == {0, 255}


def test_a_mask_that_is_not_there_has_no_quality(store):
    assert store.quality(IMAGE) is None


def test_a_mask_of_another_segmenter_counts_as_missing(store, tmp_path):
    store.write(IMAGE, LUNGS)

    assert MaskStore(tmp_path, "f" * 64).quality(IMAGE) is None


@pytest.mark.parametrize("content", [b"", b"<html>", "cut", "bare"])
def test_a_damaged_or_foreign_file_counts_as_missing(store, content):
    store.write(IMAGE, LUNGS)
    path = store.path(IMAGE)
    if content == "cut":
        path.write_bytes(path.read_bytes()[:60])
    elif content == "bare":
        Image.fromarray(two_lungs()).save(path)
    else:
        path.write_bytes(content)

    assert store.quality(IMAGE) is None


def test_nothing_half_written_is_left(store, tmp_path, monkeypatch):
    def fails(self, target, **options):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fails)

    with pytest.raises(OSError, match="disk full"):
        store.write(IMAGE, LUNGS)

    assert list(tmp_path.iterdir()) == []
