"""That every setting of preparation, augmentation, marks and loaders reaches what it is a setting of."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from cxr_isnet.data import (
    AugmentConfig,
    ImageConfig,
    MarkConfig,
    MarkMode,
    MemoryStore,
    PlantMarkd,
    RandExposureXrayd,
    RandPoseXrayd,
    equalize,
    make_dataset,
    make_loader,
    prepare_image,
)
from cxr_isnet.data.planted_marks import find_position
from cxr_isnet.imaging import read_image
from cxr_isnet.phantoms import Corner

CLASSES = ["normal", "tuberculosis"]
SMALL = ImageConfig(32)
SIDE = 64
STILL = {"rotate_degrees": 0, "translate": 0, "scale": 0, "gamma": (1, 1), "contrast": 0, "brightness": 0}


def config(**changes: Any) -> AugmentConfig:
    """Ranges with all switched off but what is given."""
    return AugmentConfig(**STILL | changes)


def posed(image: torch.Tensor, count: int = 40, **changes: Any) -> list[dict[str, torch.Tensor]]:
    """An image that is its own mask, in `count` random poses."""
    change = RandPoseXrayd(config(**changes))
    return [change.set_random_state(seed=seed)({"image": image, "mask": image}) for seed in range(count)]


def rectangle(rows: slice, columns: slice) -> torch.Tensor:
    image = torch.zeros(1, SIDE, SIDE)
    image[:, rows, columns] = 1
    return image


def centre(mask: torch.Tensor) -> tuple[float, float]:
    """Row and column of the middle of a mask."""
    rows, columns = np.nonzero(mask[0].numpy())
    return rows.mean() + 0.5, columns.mean() + 0.5


def test_a_mask_gets_the_field_of_view_of_its_image():
    items = posed(torch.ones(1, SIDE, SIDE), collimate=0.3)

    assert all(torch.equal(item["mask"] > 0, item["image"] > 0) for item in items)
    assert any((item["mask"] == 0).any() for item in items)


def test_shifts_go_both_ways_along_both_axes_as_far_as_configured():
    centres = [centre(item["mask"]) for item in posed(rectangle(slice(28, 36), slice(28, 36)), translate=0.25)]

    for axis in (0, 1):
        shifts = [place[axis] - SIDE / 2 for place in centres]
        assert -16.5 <= min(shifts) < -11
        assert 11 < max(shifts) <= 16.5


def test_turns_go_both_ways_as_far_as_configured():
    bars = [item["mask"][0].numpy() for item in posed(rectangle(slice(8, 56), slice(30, 34)), rotate_degrees=30)]
    angles = []
    for bar in bars:
        rows, columns = np.nonzero(bar)
        covariance = np.cov(rows, columns)
        angles.append(math.degrees(math.atan2(2 * covariance[0, 1], covariance[0, 0] - covariance[1, 1]) / 2))

    assert -31 < min(angles) < -20
    assert 20 < max(angles) < 31


def test_sizes_change_up_and_down_as_far_as_configured():
    areas = [float(item["mask"].sum()) / 400 for item in posed(rectangle(slice(22, 42), slice(22, 42)), scale=0.3)]

    assert 0.65**2 < min(areas) < 0.8**2
    assert 1.2**2 < max(areas) < 1.35**2


@pytest.mark.parametrize(("flip", "sides"), [(False, {12}), (True, {12, 52})])
def test_left_and_right_are_swapped_in_some_cases_if_asked_for(flip, sides):
    items = posed(rectangle(slice(20, 44), slice(8, 16)), flip=flip)

    assert {round(centre(item["mask"])[1]) for item in items} == sides


def exposed(**changes: Any) -> list[torch.Tensor]:
    """Black, quarter, half, three quarters and white in 40 random exposures."""
    change = RandExposureXrayd(config(**changes))
    ramp = {"image": torch.tensor([[[0.0, 0.25, 0.5, 0.75, 1.0]]])}
    return [change.set_random_state(seed=seed)(ramp)["image"][0, 0] for seed in range(40)]


def test_contrast_spreads_grey_values_about_a_half():
    spreads = [(image[3] - image[1]) / 0.5 for image in exposed(contrast=0.4)]

    assert all(image[2] == pytest.approx(0.5) for image in exposed(contrast=0.4))
    assert 0.6 <= min(spreads) < 0.8
    assert 1.2 < max(spreads) <= 1.4


def test_brightness_shifts_all_grey_values_alike():
    shifts = [image - torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]) for image in exposed(brightness=0.2)]

    assert all(torch.allclose(shift[1:4], shift[2].expand(3), atol=1e-6) for shift in shifts)
    assert -0.2 <= min(shift[2] for shift in shifts) < -0.1
    assert 0.1 < max(shift[2] for shift in shifts) <= 0.2


def test_gamma_is_an_exponent_between_the_configured_ones():
    exponents = [math.log(image[2]) / math.log(0.5) for image in exposed(gamma=(0.5, 2.0))]

    assert all((image[0], image[4]) == (0, 1) for image in exposed(gamma=(0.5, 2.0)))
    assert 0.5 <= min(exponents) < 0.65
    assert 1.5 < max(exponents) <= 2.0
    assert np.median(exponents) == pytest.approx(1.0, abs=0.25)  # as often brighter as darker


def test_noise_has_the_configured_deviation():
    change = RandExposureXrayd(config(noise=0.05)).set_random_state(seed=0)

    noise = change({"image": torch.full((1, SIDE, SIDE), 0.5)})["image"] - 0.5

    assert float(noise.std()) == pytest.approx(0.05, rel=0.05)
    assert float(noise.mean()) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("equalized", [True, False])
def test_an_item_is_equalized_only_if_asked_for(phantoms, equalized):
    image = ImageConfig(32, equalize=equalized)

    found = make_dataset(phantoms, CLASSES, image)[0]["image"]

    assert torch.equal(found, prepare_image(read_image(phantoms["image"][0]), image))


def test_random_poses_and_random_exposures_are_both_of_an_augmented_item(phantoms):
    plain = make_dataset(phantoms, CLASSES, SMALL)[0]
    moved = make_dataset(phantoms, CLASSES, SMALL, augment=config(translate=0.2))[0]
    exposed = make_dataset(phantoms, CLASSES, SMALL, augment=config(brightness=0.2))[0]

    assert not torch.equal(moved["mask"], plain["mask"])
    assert torch.equal(exposed["mask"], plain["mask"])
    assert not torch.equal(exposed["image"], plain["image"])


LOOKS = MarkConfig(size=0.25, intensity=0.5, corner=Corner.BOTTOM_RIGHT, margin=0.1)


@pytest.mark.parametrize("mode", [MarkMode.BIASED, MarkMode.SWAPPED])
def test_an_item_gets_the_mark_of_the_configured_looks_among_all_classes(phantoms, mode):
    three = phantoms.assign(label=["a", "b", "c"] * 4)
    clean, marked = (make_dataset(three, ["a", "b", "c"], SMALL, mark=LOOKS, mode=m) for m in (MarkMode.NONE, mode))
    plant = PlantMarkd(LOOKS, mode, 3)

    for place in range(3):
        assert torch.equal(marked[place]["image"], plant(clean[place])["image"])
        assert not torch.equal(marked[place]["image"], clean[place]["image"])


def augmented(phantoms, mode: MarkMode, **changes: Any) -> list[dict[str, Any]]:
    """The first image in five random views."""
    dataset = make_dataset(phantoms, CLASSES, SMALL, augment=config(**changes), mark=LOOKS, mode=mode)
    return [dataset[(0, seed)] for seed in range(5)]


def test_a_mark_stays_in_its_corner_however_the_patient_moves(phantoms):
    pose = {"rotate_degrees": 20, "translate": 0.1}
    plant = PlantMarkd(LOOKS, MarkMode.BIASED, 2)

    moved, marked = (augmented(phantoms, mode, **pose) for mode in (MarkMode.NONE, MarkMode.BIASED))

    for without, found in zip(moved, marked, strict=True):
        torch.testing.assert_close(plant(without)["image"], found["image"], rtol=0, atol=1e-6)


def test_a_mark_is_exposed_with_the_patient(phantoms):
    clean, still = (augmented(phantoms, mode)[0]["image"] for mode in (MarkMode.NONE, MarkMode.BIASED))
    in_the_mark = int((still - clean).abs().argmax())

    exposed = [item["image"].flatten()[in_the_mark] for item in augmented(phantoms, MarkMode.BIASED, brightness=0.2)]

    assert still.flatten()[in_the_mark] == pytest.approx(LOOKS.intensity, abs=1e-6)
    assert len({round(float(grey), 3) for grey in exposed}) == 5


def test_a_mark_has_the_configured_place_size_and_grey_value():
    looks = MarkConfig(size=0.25, intensity=0.5, margin=0.125)
    item = {"image": torch.zeros(1, SIDE, SIDE), "has_mask": torch.tensor(False), "mask": torch.zeros(1, SIDE, SIDE)}

    marked = PlantMarkd(looks, MarkMode.BIASED, 2)(item | {"label": torch.tensor(0)})["image"][0]

    assert find_position((SIDE, SIDE), None, looks) == (slice(8, 24), slice(8, 24))
    assert marked.max() == pytest.approx(0.5)
    rows, columns = np.nonzero(marked.numpy())
    assert 8 <= min(rows.min(), columns.min()) <= max(rows.max(), columns.max()) < 24


def test_a_mark_that_does_not_fit_its_corner_goes_to_the_next_before_it_shrinks():
    lungs = np.zeros((SIDE, SIDE), dtype=bool)
    lungs[:32, :32] = True

    rows, columns = find_position((SIDE, SIDE), lungs, MarkConfig(size=0.25))

    assert (rows.stop - rows.start, columns.stop - columns.start) == (16, 16)
    assert max(rows.start, columns.start) > 32


def test_what_is_darker_than_any_film_counts_as_outside_and_nothing_else_does():
    outside, inside = equalize(torch.tensor([2 / 255, 3 / 255]))

    assert outside == 0
    assert inside > 0


@pytest.mark.parametrize("kept", [True, False])
def test_without_a_store_files_are_read_whenever_an_item_is_asked_for(phantoms, write_picture, kept):
    path = write_picture("a.png", np.full((40, 40), 90))
    rows = phantoms.iloc[:1].assign(image=path, mask="")
    config = ImageConfig(32, equalize=False)
    dataset = make_dataset(rows, CLASSES, config, store=MemoryStore(config) if kept else None)
    _ = dataset[0]
    write_picture("a.png", np.full((40, 40), 200))

    grey = float(dataset[0]["image"].mean())

    assert grey == pytest.approx((90 if kept else 200) / 255)


def test_a_label_of_no_class_is_minus_one_where_labels_may_be_unknown(phantoms):
    rows = phantoms.assign(label=["tuberculosis", "scoliosis"] * 6)

    assert make_dataset(rows, CLASSES, SMALL, labelled=False).labels.tolist() == [1, -1] * 6


def test_a_site_is_an_index_among_the_names_of_the_table_in_their_order(phantoms):
    rows = phantoms.assign(site=["Cedar", "Alder", "Birch"] * 4)

    items = [make_dataset(rows, CLASSES, SMALL)[place] for place in range(3)]

    assert [(int(item["site"]), item["site_name"]) for item in items] == [(2, "Cedar"), (0, "Alder"), (1, "Birch")]


def test_the_configured_number_of_processes_loads_and_stays(phantoms):
    dataset = make_dataset(phantoms, CLASSES, SMALL)

    loader = make_loader(dataset, batch_size=4, shuffle=False, seed=0, workers=2)

    assert (loader.num_workers, loader.persistent_workers) == (2, True)
