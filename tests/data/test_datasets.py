import numpy as np
import pytest
import torch

from cxr_isnet.data import (
    AugmentConfig,
    ImageConfig,
    MarkMode,
    MemoryStore,
    make_dataset,
    make_transform,
    prepare_image,
)
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image

CLASSES = ["normal", "tuberculosis"]
SMALL = ImageConfig(size=32)


def test_item_is_as_the_contract_says(phantoms):
    item = make_dataset(phantoms, CLASSES, SMALL)[1]

    assert (item["image"].shape, item["image"].dtype) == ((1, 32, 32), torch.float32)
    assert (item["mask"].shape, item["mask"].dtype) == ((1, 32, 32), torch.float32)
    assert type(item["image"]) is type(item["mask"]) is torch.Tensor
    assert item["has_mask"].dtype == torch.bool
    assert (item["label"].item(), item["label"].dtype) == (1, torch.int64)
    assert item["path"] == phantoms["image"][1]
    assert (item["site"].item(), item["site"].dtype, item["site_name"]) == (0, torch.int64, "Alder")
    assert item["patient_id"] == phantoms["patient_id"][1]


def test_sites_are_numbered_in_the_order_of_their_names(phantoms):
    phantoms["site"] = ["Cedar", "Alder", "Birch"] * 4

    items = [make_dataset(phantoms, CLASSES, SMALL)[index] for index in range(3)]

    assert [item["site"].item() for item in items] == [2, 0, 1]


def test_a_label_that_is_no_class_is_refused_or_unknown(phantoms):
    phantoms.loc[1, "label"] = "flu"

    with pytest.raises(InputError, match="'flu', not a class"):
        make_dataset(phantoms, CLASSES, SMALL)
    assert make_dataset(phantoms, CLASSES, SMALL, labelled=False)[1]["label"].item() == -1


def test_labels_follow_the_order_of_the_classes(phantoms):
    dataset = make_dataset(phantoms, CLASSES[::-1], SMALL)

    assert dataset.labels.tolist() == [1, 0] * 6


@pytest.mark.parametrize("augment", [None, AugmentConfig(noise=0.05)])
def test_a_store_changes_nothing(phantoms, augment):
    read, kept = (make_dataset(phantoms, CLASSES, SMALL, augment=augment, store=s) for s in (None, MemoryStore(SMALL)))

    for index in ((3, 7), (3, 8), 5):
        assert torch.equal(kept[index]["image"], read[index]["image"])
        assert torch.equal(kept[index]["mask"], read[index]["mask"])


def test_random_changes_depend_on_the_seed_only(phantoms):
    dataset = make_dataset(phantoms, CLASSES, SMALL, augment=AugmentConfig())
    first = dataset[(3, 7)]["image"].clone()

    others = [dataset[(place, seed)]["image"] for place, seed in ((0, 1), (3, 8), (5, 7))]

    assert torch.equal(dataset[(3, 7)]["image"], first)
    assert not torch.equal(others[1], first)


def test_marks_are_planted_and_swapped(phantoms):
    clean, biased, swapped = (make_dataset(phantoms, CLASSES, SMALL, mode=mode) for mode in MarkMode)

    assert not torch.equal(clean[0]["image"], biased[0]["image"])
    assert not torch.equal(biased[0]["image"], swapped[0]["image"])
    lungs = clean[0]["mask"] > 0
    assert torch.equal(clean[0]["image"][lungs], swapped[0]["image"][lungs])


def test_rows_without_masks(phantoms):
    dataset = make_dataset(phantoms.assign(mask=""), CLASSES, SMALL)

    assert not dataset[0]["has_mask"]
    assert not dataset[0]["mask"].any()


def test_unknown_label_is_named(phantoms):
    with pytest.raises(InputError, match="column 'label' holds 'tuberculosis'"):
        make_dataset(phantoms, ["normal", "ill"], SMALL)


def test_no_rows_are_refused(phantoms):
    with pytest.raises(InputError, match="no images are left"):
        make_dataset(phantoms.iloc[:0], CLASSES, SMALL)


@pytest.mark.parametrize("store", [None, MemoryStore(SMALL)])
def test_bad_file_shows_as_input_error(phantoms, tmp_path, store):
    (tmp_path / "bad.png").write_bytes(b"bad")
    spoiled = phantoms.assign(image=str(tmp_path / "bad.png"))

    with pytest.raises(InputError, match=r"bad\.png: not a readable image"):
        _ = make_dataset(spoiled, CLASSES, SMALL, store=store)[0]


def test_without_random_changes_an_item_is_prepared_as_in_use(write_picture):
    path = write_picture("a.png", np.tile(np.arange(100), (80, 1)))
    config = ImageConfig(32)

    item = make_transform(config)({"image": path, "mask": "", "label": 0})

    assert torch.equal(item["image"], prepare_image(read_image(path), config))


def test_grey_values_are_equalized_behind_the_move(write_picture):
    """A border that comes in by a move must not darken or brighten what it surrounds, as it does not in use."""
    path = write_picture("a.png", np.tile(np.linspace(40, 250, 100), (100, 1)))
    still = {"rotate_degrees": 0, "translate": 0, "scale": 0, "gamma": (1, 1), "contrast": 0, "brightness": 0}
    transform = make_transform(ImageConfig(64), augment=AugmentConfig(**still, collimate=0.4))

    items = [transform.set_random_state(seed=s)({"image": path, "mask": "", "label": 0}) for s in range(8)]

    for item in items:
        field = item["image"][item["image"] > 0]
        assert field.mean() == pytest.approx(0.5, abs=0.05)
