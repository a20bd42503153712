import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_isnet.data import MarkConfig, MarkKind, MarkMode, PlantMarkd
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


LUNGS = torch.zeros(1, SIZE, SIZE)
LUNGS[:, 14:50, 12:30] = LUNGS[:, 14:50, 36:54] = 1
TEXTURE = torch.from_numpy(np.random.default_rng(0).random((1, SIZE, SIZE))).float() * 0.6
LOOKS = {kind: MarkConfig(size=0.2, kind=kind) for kind in MarkKind}


def of_kind(kind: MarkKind, label: int, name: str = "a.png", lungs: torch.Tensor | None = LUNGS) -> dict:
    before = {**item(label, lungs), "image": TEXTURE.clone(), "path": name}
    return PlantMarkd(LOOKS[kind], MarkMode.BIASED, MARK_COUNT)(before)


@pytest.mark.parametrize("kind", [kind for kind in MarkKind if kind is not MarkKind.INSIDE])
@pytest.mark.parametrize("label", range(MARK_COUNT))
def test_every_kind_leaves_the_lungs_as_they_were(kind, label):
    after = of_kind(kind, label)["image"]

    assert torch.equal(after[LUNGS > 0], TEXTURE[LUNGS > 0])
    assert after.min() >= 0
    assert after.max() <= 1


@pytest.mark.parametrize("kind", list(MarkKind))
def test_every_kind_tells_the_classes_apart(kind):
    marked = [of_kind(kind, label)["image"] for label in range(MARK_COUNT)]

    for index, mark in enumerate(marked):
        assert all((mark - other).abs().sum() > 2 for other in marked[:index])


@pytest.mark.parametrize("kind", [kind for kind in MarkKind if kind is not MarkKind.BLUR])
def test_every_kind_marks_the_first_class_too(kind):
    assert (of_kind(kind, 0)["image"] - TEXTURE).abs().sum() > 2


def test_a_mark_inside_changes_the_lungs_alone():
    for label in range(MARK_COUNT):
        mark = changed({"image": TEXTURE}, of_kind(MarkKind.INSIDE, label))
        assert mark.any()
        assert not (mark & (LUNGS[0] == 0)).any()


@pytest.mark.parametrize("kind", [MarkKind.MOVING, MarkKind.INSIDE])
def test_the_place_varies_with_the_file_not_with_the_class_or_the_folder(kind):
    def centre(label, name):
        rows, columns = np.nonzero(changed({"image": TEXTURE}, of_kind(kind, label, name)).numpy())
        return rows.mean() // 12, columns.mean() // 12

    assert len({centre(0, f"{number}.png") for number in range(20)}) > 3
    assert centre(3, "7.png") == centre(3, "elsewhere/7.png")
    assert torch.equal(of_kind(kind, 1, "7.png")["image"], of_kind(kind, 1, "elsewhere/7.png")["image"])


def test_a_gradient_rises_by_the_intensity_along_its_direction():
    dark = {**item(0), "image": torch.zeros(1, SIZE, SIZE)}
    looks = MarkConfig(intensity=0.4, kind=MarkKind.GRADIENT)

    first = PlantMarkd(looks, MarkMode.BIASED, 2)(dark)["image"][0]
    second = PlantMarkd(looks, MarkMode.SWAPPED, 2)(dark)["image"][0]

    expected = torch.linspace(0, 0.4, SIZE).expand(SIZE, SIZE)
    assert torch.allclose(first, expected, atol=1e-6)
    assert torch.allclose(second, expected.flip(1), atol=1e-6)


@pytest.mark.parametrize(
    ("label", "edge"), [(0, np.s_[:, :13]), (1, np.s_[:, -13:]), (2, np.s_[:13]), (3, np.s_[-13:])]
)
def test_a_border_blackens_the_edge_of_the_class(label, edge):
    after = of_kind(MarkKind.BORDER, label)["image"][0]
    outside = LUNGS[0][edge] == 0

    near = torch.nn.functional.max_pool2d(LUNGS, 3, stride=1, padding=1)[0][edge] > 0
    assert (after[edge][outside & ~near] == 0).all()
    assert int((after != TEXTURE[0]).sum()) <= 13 * SIZE


def test_blur_grows_with_the_class_from_none():
    def roughness(image):
        return float(image.diff(dim=1).abs().mean())

    marked = [roughness(of_kind(MarkKind.BLUR, label)["image"][0]) for label in range(MARK_COUNT)]

    assert torch.equal(of_kind(MarkKind.BLUR, 0)["image"], TEXTURE)
    assert marked == sorted(marked, reverse=True)


def test_a_mark_inside_the_lungs_needs_a_mask():
    with pytest.raises(InputError, match=r"a\.png.*needs a lung mask"):
        of_kind(MarkKind.INSIDE, 0, lungs=None)


@pytest.mark.parametrize("kind", [MarkKind.MOVING, MarkKind.TEXT, MarkKind.SHAPE])
def test_every_kind_that_needs_room_says_so(kind):
    with pytest.raises(InputError, match=r"a\.png: the lungs leave no room"):
        of_kind(kind, 0, lungs=torch.ones(1, SIZE, SIZE))
