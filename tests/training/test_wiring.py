"""What a training is given before its first epoch: loaders, settings, weights, tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from cxr_isnet.data import ImageConfig, MarkConfig, MarkMode, MemoryStore, make_dataset, make_loader, set_epoch
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.settings import OptimizerConfig, Precision, TrainerSettings
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import digest
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.objectives import BalanceConfig, Groups
from cxr_isnet.objectives.methods import find_method, options_by_method
from cxr_isnet.tracking import environment
from cxr_isnet.training import TrainConfig, experiment, train
from cxr_isnet.training.partitions import check_masks, read_partitions
from tests.checkpoints import Killed

CLASSES = ["normal", "tuberculosis"]
TINY = NetworkConfig("densenet_tiny")
MARK = MarkConfig(size=0.3, intensity=0.6)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """Starts a training and ends it before its first epoch; gives what it was to be trained with."""

    def prepare(config: TrainConfig, *, rank: int = 0, count: int = 1) -> SimpleNamespace:
        given = SimpleNamespace(fitted=[], stores=[])

        @contextmanager
        def context(device: Any) -> Iterator[DistributedContext]:
            yield DistributedContext(rank, count, torch.device("cpu"))

        def dataset(*args: Any, **kwargs: Any) -> Any:
            given.stores.append(kwargs["store"])
            return make_dataset(*args, **kwargs)

        def estimate(*args: Any) -> None:
            names = ("objective", "training", "every_image", "validation", "settings", "context")
            given.__dict__.update(zip(names, args, strict=True))
            given.denormal = float(torch.tensor(torch.finfo(torch.float32).tiny) / 2)
            raise Killed

        monkeypatch.setattr(experiment, "distributed_context", context)
        monkeypatch.setattr(experiment, "make_dataset", dataset)
        monkeypatch.setattr(experiment, "estimate_bounds", estimate)
        monkeypatch.setattr(experiment, "fit_last_layer", lambda network, images: given.fitted.append(images))
        with pytest.raises(Killed):
            train(config)
        return given

    return prepare


def assert_same_batches(found: Any, expected: Any) -> None:
    """Two loaders give the same images in the same batches in one epoch."""
    for loader in (found, expected):
        set_epoch(loader, 2)
    for one, other in zip(found, expected, strict=True):
        assert one["path"] == other["path"]
        assert torch.equal(one["image"], other["image"])


@pytest.mark.parametrize("mark", [None, MARK])
@pytest.mark.parametrize("rank", [0, 1])
def test_training_images_are_augmented_shuffled_and_shared_out_and_the_others_are_not(
    rank: int, mark: MarkConfig | None, start: Callable[..., SimpleNamespace], make_config: Callable[..., TrainConfig]
) -> None:
    config = make_config(seed=3, batch_size=6, data={"mark": mark})
    parts = read_partitions(config.data, 3)
    looks = {"mark": mark, "mode": MarkMode.NONE if mark is None else MarkMode.BIASED}

    given = start(config, rank=rank, count=2)

    augmented = make_dataset(parts.training, CLASSES, config.data.image, augment=config.data.augment, **looks)
    shared = {"shuffle": True, "seed": 3, "drop_last": True, "rank": rank, "world_size": 2}
    assert_same_batches(given.training, make_loader(augmented, batch_size=3, **shared))
    for found, frame in ((given.every_image, parts.training), (given.validation, parts.validation)):
        plain = make_dataset(frame, CLASSES, config.data.image, **looks)
        assert_same_batches(found, make_loader(plain, batch_size=3, shuffle=False, seed=3))


def test_hospitals_are_counted_as_in_training_and_the_objective_knows_its_images(
    start: Callable[..., SimpleNamespace],
    make_config: Callable[..., TrainConfig],
    phantom_table: pd.DataFrame,
    tmp_path: Path,
) -> None:
    """Validation lacks the first hospital of training, and has one that training lacks."""
    phantom_table["site"] = ["B", "Alder", "B", "B", "B", "Alder", "Alder", "B", "B", "B", "B", "Alder"]
    phantom_table["split"] = ["train"] * 8 + ["val"] * 4
    phantom_table.loc[11, "site"] = "Zoo"
    phantom_table["patient_id"] = [f"p{i}" for i in range(12)]
    phantom_table.to_csv(tmp_path / "manifest.csv", index=False)
    config = make_config(data={"training": [str(tmp_path / "manifest.csv")]}, method="group_dro")

    given = start(config)

    names = {int(s): n for batch in given.every_image for s, n in zip(batch["site"], batch["site_name"], strict=True)}
    assert names == {0: "Alder", 1: "B"}
    found = {n: int(s) for batch in given.validation for s, n in zip(batch["site"], batch["site_name"], strict=True)}
    assert found == {"B": 1, "Zoo": -1}
    rows = phantom_table[phantom_table["split"] == "train"]
    expected = [[int(((rows["label"] == c) & (rows["site"] == s)).sum()) for s in ("Alder", "B")] for c in CLASSES]
    assert given.objective.counts.tolist() == expected
    assert given.training.sampler.weights.tolist() == given.objective.sampling_weights.tolist()
    assert all(loader.sampler.weights is None for loader in (given.every_image, given.validation))


@pytest.mark.parametrize(("cache", "kind"), [(True, MemoryStore), (False, type(None))])
def test_all_images_of_a_training_are_in_one_store_if_asked_for(
    cache: bool, kind: type, start: Callable[..., SimpleNamespace], make_config: Callable[..., TrainConfig]
) -> None:
    given = start(make_config(data={"cache": cache}))

    assert len(given.stores) == 3
    assert len(set(map(id, given.stores))) == 1
    assert isinstance(given.stores[0], kind)


def test_images_are_kept_in_the_configured_folder(
    start: Callable[..., SimpleNamespace], make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    start(make_config(data={"cache_folder": str(tmp_path / "kept")}))

    assert len([path for path in (tmp_path / "kept").rglob("*") if path.is_file()]) == 12


def test_the_configured_number_of_processes_loads(
    start: Callable[..., SimpleNamespace], make_config: Callable[..., TrainConfig]
) -> None:
    given = start(make_config(data={"workers": 1}))

    assert {loader.num_workers for loader in (given.training, given.every_image, given.validation)} == {1}


def test_the_trainer_has_the_settings_of_the_config(
    start: Callable[..., SimpleNamespace], make_config: Callable[..., TrainConfig]
) -> None:
    optimizer = OptimizerConfig(learning_rate=0.125, clip=2.0, average=0.5)
    config = make_config(optimizer=optimizer, epochs=7, seed=3, precision=Precision.BF16)

    assert start(config).settings == TrainerSettings(optimizer, 7, 3, Precision.BF16)


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this CPU cannot flush denormal numbers")
def test_denormal_numbers_count_as_zero_while_it_trains(
    start: Callable[..., SimpleNamespace], make_config: Callable[..., TrainConfig]
) -> None:
    assert start(make_config()).denormal == 0


def test_first_weights_come_from_the_seed(
    start: Callable[..., SimpleNamespace], make_config: Callable[..., TrainConfig]
) -> None:
    torch.manual_seed(99)
    given = start(make_config(seed=3, network=TINY))

    torch.manual_seed(3)
    expected = build_network(TINY, 2, 32).state_dict()
    assert all(torch.equal(expected[key], value) for key, value in given.objective.network.state_dict().items())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A classifier to start from."""
    path = tmp_path / "start.pt"
    Classifier(build_network(TINY, 2, 32), TINY, tuple(CLASSES), ImageConfig(32), "cross_entropy").save(path)
    return path


def test_the_last_layer_is_fitted_to_unchanged_images_only_where_weights_are_taken_over(
    checkpoint: Path, start: Callable[..., SimpleNamespace], make_config: Callable[..., TrainConfig]
) -> None:
    taken = start(make_config("one", init_from=str(checkpoint), network=TINY))
    drawn = start(make_config("two", network=TINY))

    assert taken.fitted == [taken.every_image]
    assert drawn.fitted == []


def test_the_run_is_opened_with_all_settings_and_tags_and_goes_on_as_the_same_run(
    checkpoint: Path, make_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: dict[str, Any] = {}

    def start_run(tracking: Any, **settings: Any) -> None:
        opened.update(settings)
        raise Killed

    config = make_config(seed=3, init_from=str(checkpoint), network=TINY)
    monkeypatch.setattr(experiment, "start_run", start_run)
    monkeypatch.setattr(experiment.RunDirectory, "run_id", lambda _: "an id")
    with pytest.raises(Killed):
        train(config, tags={"site_left_out": "Alder"})

    assert opened["parameters"] == {**config.resolved(), "versions": environment()}
    assert opened["name"] == "cross_entropy densenet_tiny seed 3 (run)"
    assert opened["run_id"] == "an id"
    assert opened["tags"] == {
        "method": "cross_entropy",
        "network": "densenet_tiny",
        "seed": 3,
        "device": "cpu",
        "init_from_sha256": digest(checkpoint),
        "site_left_out": "Alder",
    }


@pytest.mark.parametrize("method", ["isnet", "cross_entropy"])
def test_only_a_method_that_needs_masks_refuses_images_without(
    method: str,
    start: Callable[..., SimpleNamespace],
    make_config: Callable[..., TrainConfig],
    phantom_table: pd.DataFrame,
    tmp_path: Path,
) -> None:
    phantom_table.assign(mask="").to_csv(tmp_path / "bare.csv", index=False)
    config = make_config(method=method, data={"training": [str(tmp_path / "bare.csv")]}, network=TINY)

    if method == "cross_entropy":
        start(config)
        return
    with pytest.raises(InputError, match=r"'isnet' needs lung masks.*8 images have none .*Alder, normal: 0 of 4"):
        train(config)
    assert not Path(config.output).exists()


def frame_of(**masked: tuple[int, int]) -> pd.DataFrame:
    """Training images of both classes of hospitals, so many with a mask of so many."""
    rows = [
        {"site": site, "label": label, "mask": "m.png" if i < having else ""}
        for site, (having, count) in masked.items()
        for label in CLASSES
        for i in range(count if label == CLASSES[0] else having)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("least", "masked", "told"),
    [
        (0.5, {"A": (5, 10), "B": (10, 10)}, ""),
        (0.5, {"A": (4, 10), "B": (10, 10)}, "6 images have none (masked are: A, normal: 4 of 10)"),
        (0.5, {"A": (0, 9), "B": (1, 9)}, "17 images have none (masked are: A, normal: 0 of 9; B, normal: 1 of 9)"),
        (0.0, {"A": (1, 10)}, ""),
        (0.0, {"A": (0, 10)}, "A, normal: 0 of 10"),
        (1.0, {"A": (9, 10)}, "100% of the training images"),
    ],
)
def test_too_few_masks_of_a_class_of_a_hospital_are_refused(
    least: float, masked: dict[str, tuple[int, int]], told: str, make_config: Callable[..., TrainConfig]
) -> None:
    data = make_config(data={"least_masked": least}).data

    check_masks(find_method("cross_entropy"), frame_of(**masked), data)
    if not told:
        check_masks(find_method("isnet"), frame_of(**masked), data)
        return
    with pytest.raises(InputError, match=re.escape(told)) as refused:
        check_masks(find_method("isnet"), frame_of(**masked), data)
    assert "segment predict" in str(refused.value)
    assert "--data.masked_only true" in str(refused.value)


def test_a_training_balances_the_groups_that_it_is_told_to(
    start: Callable[..., SimpleNamespace], make_config: Callable[..., TrainConfig]
) -> None:
    given = start(make_config(balance=BalanceConfig(Groups.CLASS, weighting=True)))

    assert given.objective.loss_weights is not None
    assert given.training.sampler.weights.tolist() == given.objective.sampling_weights.tolist()


def test_images_are_split_by_the_configured_share_and_the_seed(make_config: Callable[..., TrainConfig]) -> None:
    half = make_config(data={"validation_fraction": 0.5}).data

    sizes = [len(read_partitions(data, 0).validation) for data in (make_config().data, half)]
    splits = {tuple(read_partitions(half, seed).validation["image"]) for seed in range(4)}

    assert sizes == [4, 6]
    assert len(splits) > 1


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("image", "{tmp_path}/broken.png", r"broken\.png"), ("label", "scoliosis", "scoliosis")],
)
def test_a_fault_in_an_external_table_is_found_before_anything_is_written(
    column: str,
    value: str,
    message: str,
    make_config: Callable[..., TrainConfig],
    external_manifest: Path,
    tmp_path: Path,
) -> None:
    table = pd.read_csv(external_manifest, dtype=str, keep_default_na=False)
    for name in ("image", "mask"):
        table[name] = [str(external_manifest.parent / path) for path in table[name]]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    table.loc[0, column] = value.format(tmp_path=tmp_path)
    table.to_csv(tmp_path / "external.csv", index=False)
    config = make_config(data={"external": [str(tmp_path / "external.csv")]})

    with pytest.raises(InputError, match=message):
        train(config)

    assert not Path(config.output).exists()


@pytest.mark.usefixtures("unevaluated")
def test_the_classifier_that_is_kept_names_its_method_network_and_settings(
    make_config: Callable[..., TrainConfig],
) -> None:
    network = NetworkConfig("tests.engine.two_processes.CONVOLUTIONS")
    options = options_by_method({"isnet_dual": {"heatmap_weight": 0.25, "bound_estimation_epochs": 1}})
    config = make_config(method="isnet_dual", network=network, options=options, epochs=1)

    train(config)

    found = Classifier.load(Path(config.output) / "best.pt")
    assert (found.method, found.config, found.image) == ("isnet_dual", network, config.data.image)
    assert found.classes == ("normal", "tuberculosis")
    assert found.options == config.resolved()["options"]["isnet_dual"]
    assert found.options["heatmap_weight"] == 0.25
