import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_isnet.data import MarkConfig, MarkMode, PlantMarkd
from cxr_isnet.data.planted_marks import find_position
from cxr_isnet.errors import InputError
from cxr_isnet.phantoms import Corner
from cxr_isnet.phantoms.glyphs import MARK_COUNT

SIZE = 64


def item(label: int = 0, mask: torch.Tensor | None = None) -> dict:
    return {
        "image": torch.full((1, SIZE, SIZE), 0.3),
        "mask": torch.zeros(1, SIZE, SIZE) if mask is None else mask,
        "has_mask": torch.tensor(mask is not None),
        "label": torch.tensor(label),
        "path": "a.png",
    }


def changed(before: dict, after: dict) -> torch.Tensor:
    return (before["image"] - after["image"])[0].abs() > 1e-6


def planted(label: int, mode: MarkMode, class_count: int = 2) -> torch.Tensor:
    return PlantMarkd(MarkConfig(), mode, class_count)(item(label))["image"]


def test_no_mark():
    before = item()

    assert torch.equal(PlantMarkd(MarkConfig(), MarkMode.NONE, 2)(before)["image"], before["image"])


def test_given_item_is_not_changed():
    before = item()

    PlantMarkd(MarkConfig(), MarkMode.BIASED, 2)(before)

    assert (before["image"] == 0.3).all()


def test_each_class_has_its_own_mark():
    marks = [planted(label, MarkMode.BIASED, MARK_COUNT) for label in range(MARK_COUNT)]

    for index, mark in enumerate(marks):
        assert all((mark - other).abs().sum() > 3 for other in marks[:index])


@pytest.mark.parametrize("class_count", range(2, MARK_COUNT + 1))
def test_swapping_is_a_derangement(class_count):
    biased = [planted(label, MarkMode.BIASED, class_count) for label in range(class_count)]
    swapped = [planted(label, MarkMode.SWAPPED, class_count) for label in range(class_count)]

    wearer = [next(i for i, mark in enumerate(biased) if torch.equal(mark, found)) for found in swapped]
    assert sorted(wearer) == list(range(class_count))
    assert all(label != other for label, other in enumerate(wearer))


@pytest.mark.parametrize("corner", list(Corner))
def test_mark_goes_to_the_wanted_corner(corner):
    after = PlantMarkd(MarkConfig(corner=corner), MarkMode.BIASED, 2)(item())

    rows, columns = np.nonzero(changed(item(), after).numpy())
    assert (rows.mean() < SIZE / 2) == corner.startswith("top")
    assert (columns.mean() < SIZE / 2) == corner.endswith("left")
    assert after["image"].max() == pytest.approx(1.0)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000), label=st.integers(0, 1), grain=st.sampled_from([4, 8, 16]))
def test_mark_is_never_on_or_beside_the_lungs(seed, label, grain):
    cells = np.random.default_rng(seed).random((grain, grain)) < 0.35
    lungs = torch.from_numpy(np.kron(cells, np.ones((SIZE // grain,) * 2))).float()[None]
    before = item(label, lungs)
    plant = PlantMarkd(MarkConfig(), MarkMode.BIASED, 2)

    if find_position((SIZE, SIZE), lungs[0].numpy() > 0, MarkConfig()) is None:
        with pytest.raises(InputError, match="no room"):
            plant(before)
        return
    mark = changed(before, plant(before))
    beside = torch.nn.functional.max_pool2d(lungs, 3, stride=1, padding=1)[0] > 0
    assert mark.any()
    assert not (mark & beside).any()


def test_position_does_not_depend_on_the_class():
    lungs = torch.zeros(1, SIZE, SIZE)
    lungs[:, :20, :40] = 1
    boxes = set()
    for label in range(MARK_COUNT):
        before = item(label, lungs)
        rows, columns = np.nonzero(changed(before, PlantMarkd(MarkConfig(), MarkMode.BIASED, 6)(before)).numpy())
        boxes.add((rows.min() // 10, columns.min() // 10))

    assert len(boxes) == 1


def test_mark_shrinks_where_the_corners_are_narrow():
    lungs = np.zeros((SIZE, SIZE), dtype=bool)
    lungs[8:-8] = True

    rows, _ = find_position((SIZE, SIZE), lungs, MarkConfig(size=0.2, margin=0.0))

    assert 5 <= rows.stop - rows.start < 13


def test_lungs_everywhere_are_refused():
    with pytest.raises(InputError, match=r"a\.png: the lungs leave no room"):
        PlantMarkd(MarkConfig(), MarkMode.BIASED, 2)(item(0, torch.ones(1, SIZE, SIZE)))


@pytest.mark.parametrize(("mode", "class_count"), [(MarkMode.BIASED, MARK_COUNT + 1), (MarkMode.SWAPPED, 1)])
def test_wrong_number_of_classes_is_refused(mode, class_count):
    with pytest.raises(InputError, match="planted marks"):
        PlantMarkd(MarkConfig(), mode, class_count)


@pytest.mark.parametrize("wrong", [{"size": 0.0}, {"size": 0.6}, {"intensity": 2.0}, {"margin": 0.5}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        MarkConfig(**wrong)
