import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_isnet.data import AugmentConfig, EpochSampler, ImageConfig, make_dataset, make_loader, set_epoch
from cxr_isnet.errors import InputError

CLASSES = ["normal", "tuberculosis"]


@pytest.fixture(scope="module")
def dataset(phantom_manifest):
    from cxr_isnet.manifests import read_manifest

    frame = read_manifest(phantom_manifest)
    return make_dataset(frame, CLASSES, ImageConfig(32), augment=AugmentConfig(noise=0.02))


def epoch_of(dataset, epoch: int, **options) -> tuple[list[str], torch.Tensor]:
    loader = make_loader(dataset, **({"batch_size": 5, "shuffle": True, "seed": 4} | options))
    set_epoch(loader, epoch)
    return contents(loader)


def contents(loader) -> tuple[list[str], torch.Tensor]:
    batches = list(loader)
    return [path for batch in batches for path in batch["path"]], torch.cat([batch["image"] for batch in batches])


def test_batch_is_as_the_contract_says(dataset):
    batch = next(iter(make_loader(dataset, batch_size=5, shuffle=False, seed=0)))

    assert (batch["image"].shape, batch["image"].dtype) == ((5, 1, 32, 32), torch.float32)
    assert (batch["mask"].shape, batch["mask"].dtype) == ((5, 1, 32, 32), torch.float32)
    assert (batch["has_mask"].shape, batch["has_mask"].dtype) == ((5,), torch.bool)
    assert batch["label"].tolist() == [0, 1, 0, 1, 0]
    assert (batch["site"].tolist(), batch["site"].dtype) == ([0] * 5, torch.int64)
    assert all(isinstance(batch[key], list) for key in ("site_name", "patient_id", "path"))


def test_epoch_does_not_depend_on_what_went_before(dataset):
    loader = make_loader(dataset, batch_size=5, shuffle=True, seed=4)
    for epoch in range(3):
        set_epoch(loader, epoch)
        paths, images = contents(loader)

    resumed_paths, resumed_images = epoch_of(dataset, 2)
    assert paths == resumed_paths
    assert torch.equal(images, resumed_images)


def test_global_random_state_is_neither_used_nor_changed(dataset):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = epoch_of(dataset, 0)
    untouched = torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)

    assert torch.equal(first[1], epoch_of(dataset, 0)[1])
    assert untouched


@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 5}])
def test_epoch_and_seed_change_order_and_views(dataset, change):
    paths, images = epoch_of(dataset, 0)
    other_paths, other_images = epoch_of(dataset, **({"epoch": 0} | change))

    assert paths != other_paths
    assert sorted(paths) == sorted(other_paths)
    first, other = images[paths.index(paths[0])], other_images[other_paths.index(paths[0])]
    assert not torch.equal(first, other)


def test_workers_see_the_same_batches_in_every_epoch(dataset):
    alone = make_loader(dataset, batch_size=5, shuffle=True, seed=4)
    helped = make_loader(dataset, batch_size=5, shuffle=True, seed=4, workers=1)
    for epoch in (0, 1):
        set_epoch(alone, epoch)
        set_epoch(helped, epoch)
        expected, found = contents(alone), contents(helped)
        assert expected[0] == found[0]
        assert torch.equal(expected[1], found[1])


def test_two_processes_see_the_batches_of_one(dataset):
    single = list(make_loader(dataset, batch_size=4, shuffle=True, seed=4))
    halves = [
        list(make_loader(dataset, batch_size=2, shuffle=True, seed=4, rank=rank, world_size=2)) for rank in (0, 1)
    ]

    for whole, first, second in zip(single, *halves, strict=True):
        images = dict(zip(whole["path"], whole["image"], strict=True))
        for part in (first, second):
            for path, image in zip(part["path"], part["image"], strict=True):
                assert torch.equal(images.pop(path), image)
        assert not images


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 40), world_size=st.integers(1, 5), shuffle=st.booleans(), seed=st.integers(0, 3))
def test_processes_share_out_every_image(length, world_size, shuffle, seed):
    samplers = [
        EpochSampler(length, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    places = [[place for place, _ in sampler] for sampler in samplers]

    assert [len(sampler) for sampler in samplers] == [len(part) for part in places]
    together = [place for part in places for place in part]
    assert set(together) == set(range(length))
    assert len({len(part) for part in places}) == 1 if shuffle else len(together) == length


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=20), world_size=st.integers(1, 3), seed=st.integers(0, 3)
)
def test_weighted_images_come_as_often_as_their_weights_say(weights, world_size, seed):
    samplers = [
        EpochSampler(len(weights), shuffle=True, seed=seed, rank=rank, world_size=world_size, weights=weights)
        for rank in range(world_size)
    ]
    parts = [list(sampler) for sampler in samplers]

    together = [place for part in parts for place, _ in part]
    assert [len(sampler) for sampler in samplers] == [len(part) for part in parts]
    assert len({len(part) for part in parts}) == 1
    for place, weight in enumerate(weights):
        expected = len(together) * weight / sum(weights)
        assert abs(together.count(place) - expected) < 1 + 1e-6
    assert len({seed for part in parts for _, seed in part}) == len(together)


def test_weighted_images_are_drawn_anew_in_each_epoch_and_the_same_in_each_process():
    weights = [1.0] * 5 + [5.0] * 3

    def drawn(epoch, rank=0, world_size=1):
        sampler = EpochSampler(8, shuffle=True, seed=4, rank=rank, world_size=world_size, weights=weights)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1)[::2] == drawn(1, 0, 2)
    assert drawn(1)[1::2] == drawn(1, 1, 2)
    assert {place for place, _ in drawn(1)} >= {5, 6, 7}


def test_no_image_without_weight_is_drawn_and_chances_are_right():
    counts = np.zeros(4)
    for seed in range(200):
        sampler = EpochSampler(4, shuffle=True, seed=seed, weights=[0.0, 1.0, 1.0, 0.5])
        for place, _ in sampler:
            counts[place] += 1

    assert counts[0] == 0
    assert counts[1:] / 200 == pytest.approx([1.6, 1.6, 0.8], abs=0.12)


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0]])
def test_weights_of_other_items_or_no_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights for 3 items"):
        EpochSampler(3, shuffle=True, seed=0, weights=weights)
    with pytest.raises(ValueError, match="and shuffling"):
        EpochSampler(3, shuffle=False, seed=0, weights=[1.0, 1.0, 1.0])


@pytest.mark.parametrize("drop_last", [True, False])
def test_last_batch(dataset, drop_last):
    sizes = [len(b["label"]) for b in make_loader(dataset, batch_size=5, shuffle=False, seed=0, drop_last=drop_last)]

    assert sizes == ([5, 5] if drop_last else [5, 5, 2])


def test_less_than_one_batch_is_refused(dataset):
    with pytest.raises(InputError, match="do not fill one batch of 13"):
        make_loader(dataset, batch_size=13, shuffle=True, seed=0, drop_last=True)


def test_foreign_loader_has_no_epochs(dataset):
    with pytest.raises(TypeError, match="make_loader"):
        set_epoch(torch.utils.data.DataLoader(dataset), 1)
