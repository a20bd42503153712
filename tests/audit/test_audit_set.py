"""Reading a manifest for an audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cxr_isnet.audit import load_audit_set
from cxr_isnet.data import ImageConfig, MarkConfig, equalize, prepare_image
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image
from cxr_isnet.manifests import read_manifests

CLASSES = ("normal", "tuberculosis")


def test_images_come_with_the_greys_as_read_so_that_equalizing_gives_what_a_network_is_trained_on(
    phantom_manifest: Path, external_manifest: Path
) -> None:
    frame = read_manifests([phantom_manifest, external_manifest])

    data = load_audit_set(frame, CLASSES, 48, most_images=100)

    assert data.images.shape == data.masks.shape == (20, 1, 48, 48)
    assert data.site_names == ("Alder", "Birch")
    assert [data.classes[i] for i in data.labels] == list(frame["label"])
    assert [data.site_names[i] for i in data.sites] == list(frame["site"])
    expected = prepare_image(read_image(frame["image"][3]), ImageConfig(48))
    np.testing.assert_allclose(equalize(data.images[3]).numpy(), expected.numpy(), atol=1e-6)


def test_marks_are_planted_outside_the_lungs(phantom_manifest: Path) -> None:
    frame = read_manifests([phantom_manifest])

    plain, marked = (load_audit_set(frame, CLASSES, 64, mark=m, most_images=100) for m in (None, MarkConfig(0.14)))

    changed = plain.images != marked.images
    assert changed.flatten(1).any(1).all()
    assert not changed[marked.masks > 0].any()


def test_a_large_manifest_is_sampled_evenly_and_by_whole_patients(
    phantom_manifest: Path, external_manifest: Path
) -> None:
    frame = read_manifests([phantom_manifest, external_manifest])

    data = load_audit_set(frame, CLASSES, 32, most_images=12)

    assert np.unique(data.sites * 2 + data.labels, return_counts=True)[1].tolist() == [3, 3, 3, 3]
    assert data.patients.tolist() == list(range(12))
    assert len(data.stratified_rows(8, 0)) == 8


def test_images_without_a_mask_are_left_out_and_too_few_are_refused(
    phantom_manifest: Path, external_manifest: Path
) -> None:
    frame = read_manifests([phantom_manifest, external_manifest])
    some = frame.assign(mask=frame["mask"].where(frame["site"] == "Alder", ""))

    assert len(load_audit_set(some, CLASSES, 32, most_images=100)) == 12
    few = frame.assign(mask=frame["mask"].where(frame["site"] == "Birch", ""))
    with pytest.raises(InputError, match="'mask': 8 of 20 images have one, of 8 patients; an audit needs 10"):
        load_audit_set(few, CLASSES, 32, most_images=100)
    with pytest.raises(InputError, match="'label': all images with a mask are 'normal'"):
        load_audit_set(frame.assign(label="normal"), CLASSES, 32, most_images=100)


def test_a_mask_is_of_zeros_and_ones(phantom_manifest: Path) -> None:
    data = load_audit_set(read_manifests([phantom_manifest]), CLASSES, 32, most_images=100)

    assert set(torch.unique(data.masks).tolist()) == {0.0, 1.0}
