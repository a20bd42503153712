import pytest
import torch

from cxr_isnet.data import (
    AugmentConfig,
    ImageConfig,
    RandDevicesXrayd,
    RandExposureXrayd,
    RandPoseXrayd,
    make_transform,
)
from cxr_isnet.errors import InputError

OFF = {"rotate_degrees": 0, "translate": 0, "scale": 0, "gamma": (1, 1), "contrast": 0, "brightness": 0}


def block() -> dict:
    """A bright square that is the mask at the same time, off the middle."""
    square = torch.zeros(1, 64, 64)
    square[:, 20:40, 12:30] = 1
    return {"image": square.clone(), "mask": square.clone(), "label": 1}


def augmented(seed: int = 0, **config: object) -> dict:
    ranges = AugmentConfig(**(OFF | config))
    moved = RandPoseXrayd(ranges).set_random_state(seed=seed)(block())
    return RandExposureXrayd(ranges).set_random_state(seed=seed)(moved)


def test_all_off_changes_nothing():
    item = augmented()

    assert torch.allclose(item["image"], block()["image"], atol=1e-5)
    assert torch.equal(item["mask"], block()["mask"])
    assert item["label"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_mask_moves_with_its_image(seed):
    item = augmented(seed, rotate_degrees=20, translate=0.1, scale=0.2, aspect=0.2, flip=True, collimate=0.2)

    assert not torch.equal(item["mask"], block()["mask"])
    assert torch.equal(item["mask"].unique(), torch.tensor([0.0, 1.0]))
    assert ((item["image"] > 0.5) != (item["mask"] > 0.5)).sum() <= 6


def test_turn_keeps_shape_and_area():
    item = augmented(3, rotate_degrees=30)

    assert item["mask"].sum() == pytest.approx(20 * 18, rel=0.03)


def test_what_comes_in_from_outside_is_zero_in_image_and_mask():
    change = RandPoseXrayd(AugmentConfig(**(OFF | {"translate": 0.3}))).set_random_state(seed=1)

    item = change({"image": torch.ones(1, 64, 64), "mask": torch.ones(1, 64, 64)})

    outside = item["mask"] == 0
    assert outside.any()
    assert (item["image"][outside] < 0.51).all()


def test_aspect_changes_width_against_height_and_keeps_the_area():
    shapes = [augmented(seed, aspect=0.4)["mask"][0] for seed in range(8)]
    ratios = [float(m.any(1).sum() / m.any(0).sum()) / (20 / 18) for m in shapes]

    assert min(ratios) < 0.85
    assert max(ratios) > 1.15
    assert all(m.sum() == pytest.approx(20 * 18, rel=0.1) for m in shapes)  # sides are whole pixels


def test_collimation_leaves_a_rectangle_and_blackens_the_rest():
    everything = {"image": torch.ones(1, 64, 64), "mask": torch.ones(1, 64, 64)}
    change = RandPoseXrayd(AugmentConfig(**(OFF | {"collimate": 0.25})))
    fields = [change.set_random_state(seed=seed)(everything)["image"][0] > 0.5 for seed in range(60)]

    for field in fields:
        assert torch.equal(field, field.any(1)[:, None] & field.any(0)[None])
        assert field[16:48, 16:48].all()
    assert 0 < sum(bool(field.all()) for field in fields) < 60
    assert all((~torch.stack(fields)[:, edge]).any() for edge in (0, -1))


@pytest.mark.parametrize("change", [{"gamma": (0.5, 2.0)}, {"contrast": 0.4}, {"brightness": 0.3}, {"noise": 0.1}])
def test_exposure_changes_the_image_within_range_and_leaves_the_mask(change):
    ramp = torch.linspace(0, 1, 64).repeat(1, 64, 1)
    rand = RandExposureXrayd(AugmentConfig(**(OFF | change))).set_random_state(seed=0)

    item = rand({"image": ramp, "mask": block()["mask"]})

    assert not torch.allclose(item["image"], ramp, atol=1e-3)
    assert 0 <= item["image"].min() <= item["image"].max() <= 1
    assert torch.equal(item["mask"], block()["mask"])


def test_seed_decides():
    first, again, other = (augmented(seed, rotate_degrees=10, noise=0.05)["image"] for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_hearts_stay_on_their_side_by_default():
    assert AugmentConfig().flip is False


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise": -1.0},
        {"scale": 1.0},
        {"aspect": 1.0},
        {"collimate": 0.5},
        {"gamma": (2.0, 1.0)},
        {"gamma": (0.0, 1.0)},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        AugmentConfig(**wrong)


@pytest.mark.parametrize("seed", range(4))
def test_devices_are_drawn_over_the_image_and_leave_the_mask_and_the_range(seed):
    change = RandDevicesXrayd(AugmentConfig(**(OFF | {"devices": 1.0}))).set_random_state(seed=seed)
    item = {"image": torch.full((1, 64, 64), 0.4), "mask": block()["mask"]}

    drawn = change(item)

    brighter = drawn["image"] > 0.4001
    assert 0.005 < float(brighter.float().mean()) < 0.5
    assert torch.equal(drawn["image"][~brighter], item["image"][~brighter])
    assert float(drawn["image"].max()) <= 1
    assert torch.equal(drawn["mask"], item["mask"])


def test_devices_are_drawn_over_their_share_of_the_images_in_training():
    change = RandDevicesXrayd(AugmentConfig(**(OFF | {"devices": 0.3})))
    dark = {"image": torch.zeros(1, 32, 32)}

    changed = [bool(change.set_random_state(seed=seed)(dark)["image"].any()) for seed in range(200)]

    assert 0.2 < sum(changed) / 200 < 0.4
    steps = make_transform(ImageConfig(32), augment=AugmentConfig(devices=0.3)).transforms
    assert [type(step).__name__ for step in steps][-2:] == ["RandDevicesXrayd", "RandExposureXrayd"]
