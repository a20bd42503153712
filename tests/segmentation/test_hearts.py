"""Masks of two kinds, with and without the heart: one network, an output for each."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn.functional import logsigmoid

from cxr_isnet.commands.segment import SegmentPredictConfig, segment_predict
from cxr_isnet.data import ImageConfig
from cxr_isnet.errors import InputError
from cxr_isnet.networks import Heart, SegmenterConfig, build_segmenter
from cxr_isnet.segmentation import Segmenter, read_pairs, read_splits, train_segmenter
from cxr_isnet.segmentation.overlap import LungOverlap

BOTH = (Heart.LEFT_OUT, Heart.INCLUDED)


class Given(torch.nn.Module):
    """The same logits (1, outputs, H, W) for every image."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1, -1, -1)


def lungs_and_heart() -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (1, 1, 8, 10): two lungs without, and with, what lies between them in the lower rows."""
    without = torch.zeros(1, 1, 8, 10)
    without[..., 2:7, 1:4] = without[..., 2:7, 6:9] = 1
    including = without.clone()
    including[..., 4:7, 5:6] = 1
    return without, including


def terms(site: int, logits: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    batch = {"image": torch.zeros_like(mask), "mask": mask, "site": torch.tensor([site])}
    return LungOverlap(Given(logits), BOTH)(batch)


@pytest.mark.parametrize("site", [0, 1])
def test_each_image_teaches_the_output_of_its_kind_and_lungs_without_the_heart_lie_within_those_with_it(site):
    mask = lungs_and_heart()[site]
    logits = torch.randn(1, 2, 8, 10, generator=torch.Generator().manual_seed(site))
    own = LungOverlap(Given(logits[:, site : site + 1]))({"image": mask, "mask": mask})["loss"]
    outside = [
        float(-logsigmoid(-logits[0, 0, row, column]))
        for row in range(8)
        for column in range(10)
        if site == 1 and not mask[0, 0, row, column]
    ]

    assert float(terms(site, logits, mask)["loss"]) == pytest.approx(float(own) + sum(outside) / 80, abs=1e-5)


def test_what_an_annotator_did_not_say_of_the_other_kind_has_no_gradient():
    without, including = lungs_and_heart()
    for site, mask, unknown in ((0, without, torch.ones_like(without)), (1, including, including)):
        network = Given(torch.zeros(1, 2, 8, 10))
        batch = {"image": mask, "mask": mask, "site": torch.tensor([site])}
        LungOverlap(network, BOTH)(batch)["loss"].backward()

        gradient = network.logits.grad[:, 1 - site : 2 - site]
        assert torch.equal(gradient == 0, unknown == 1)


@pytest.fixture
def two_kinds(make_config, phantom_manifest, external_manifest):
    """A training on a site that leaves the heart out and one that includes it."""
    with_heart = str(external_manifest)
    return make_config(training=[str(phantom_manifest), with_heart], heart_included=[with_heart])


def train(config):
    splits = read_splits(
        config.training, config.external, config.validation_fraction, config.seed, config.heart_included
    )
    return train_segmenter(config, splits)


def test_a_segmenter_of_both_kinds_is_trained_saved_and_gives_either(two_kinds):
    evaluation = train(two_kinds)["validation"]

    segmenter = Segmenter.load(Path(two_kinds.output) / "best.pt")
    images = torch.rand(2, 1, 32, 32)
    assert segmenter.config.hearts == BOTH
    maps = [segmenter.with_heart(heart).augmented_probabilities(images) for heart in BOTH]
    assert not torch.equal(*maps)
    assert torch.equal(segmenter.augmented_probabilities(images), maps[0])
    kinds = set(zip(evaluation.table["site"], evaluation.table["heart"], strict=True))
    assert kinds == {("Alder", Heart.LEFT_OUT), ("Birch", Heart.INCLUDED)}


def test_masks_say_of_which_kind_they_are_and_one_kind_is_not_taken_for_the_other(tmp_path, write_xrays):
    torch.manual_seed(0)
    config = SegmenterConfig((4, 8), hearts=BOTH)
    network = build_segmenter(config)
    Segmenter(network, config, ImageConfig(32)).save(tmp_path / "best.pt")
    manifest = write_xrays([torch.ones(40, 40).numpy()])

    sources = {}
    for heart in (Heart.LEFT_OUT, Heart.INCLUDED, None):
        output = tmp_path / "masks"
        segment_predict(SegmentPredictConfig(str(tmp_path / "best.pt"), [str(manifest)], str(output), heart=heart))
        store = next((output / "masks").iterdir())
        sources[heart] = store.read_bytes()

    assert len(set(sources.values())) == 3
    assert Segmenter.load(tmp_path / "best.pt").with_heart(Heart.INCLUDED).mask_source.endswith(", heart included")


def test_a_kind_that_was_not_trained_on_is_refused(saved_one_kind):
    with pytest.raises(InputError, match="trained on: masks of one kind"):
        Segmenter.load(saved_one_kind).with_heart(Heart.INCLUDED)


@pytest.fixture
def saved_one_kind(tmp_path) -> Path:
    config = SegmenterConfig((4, 8))
    Segmenter(build_segmenter(config), config, ImageConfig(32)).save(tmp_path / "best.pt")
    return tmp_path / "best.pt"


def test_an_external_site_of_a_kind_without_training_masks_is_refused(make_config, phantom_manifest, external_manifest):
    config = make_config(external=[str(external_manifest)], heart_included=[str(external_manifest)])

    with pytest.raises(InputError, match="included"):
        train(config)


def test_a_manifest_that_is_in_neither_list_is_refused(make_config):
    with pytest.raises(InputError, match=r"heart_included names \['other.csv'\]"):
        make_config(heart_included=["other.csv"])


def test_a_site_of_both_kinds_is_refused(phantom_manifest):
    table = pd.read_csv(phantom_manifest, keep_default_na=False)
    one, other = phantom_manifest.with_name("one.csv"), phantom_manifest.with_name("other.csv")
    table[:6].to_csv(one, index=False)
    table[6:].to_csv(other, index=False)

    with pytest.raises(InputError, match=r"column 'site': \['Alder'\]"):
        read_pairs([str(one), str(other)], [str(other)])
