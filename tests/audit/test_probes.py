"""Each probe on models whose shortcut is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from cxr_isnet.audit import AuditContext, AuditSet, TrainingImages
from cxr_isnet.audit.probes import (
    background_swap,
    hidden_lungs,
    imposed_changes,
    lung_dependence,
    pixel_erasure,
    relevance_share,
    site_probe,
    weight_randomisation,
    whole_images,
)
from cxr_isnet.audit.statistics import ProbeResult
from cxr_isnet.data import blur
from cxr_isnet.evaluation.confusion import FloatArray
from cxr_isnet.evaluation.ranking import hand_till_auc
from tests.audit.conftest import (
    LUNGS,
    MARK,
    ignores_all,
    make_set,
    maps_at,
    noise,
    reads_corner,
    reads_lungs,
    two_classes,
    value,
)

Make = Callable[..., AuditContext]


def test_a_model_of_the_corner_does_not_need_the_lungs(context: Make) -> None:
    found = hidden_lungs.run(context(reads_corner, make_set(marked=True)))

    assert value(found.statistics, "AUC, background only") == 1.0
    assert value(found.statistics, "AUC within hospitals, lungs filled") == 1.0
    assert value(found.statistics, "AUC, lungs only") == 0.5
    assert found.p_value < 0.001


@pytest.mark.parametrize("model", [reads_lungs, ignores_all])
def test_without_lungs_a_model_of_the_lungs_knows_nothing(context: Make, model: Callable[[Tensor], FloatArray]) -> None:
    found = hidden_lungs.run(context(model, make_set(marked=True)))

    assert value(found.statistics, "AUC, background only") == 0.5
    assert value(found.statistics, "AUC, lungs filled") == 0.5
    assert found.p_value == 1.0


def test_within_hospitals_no_pair_of_patients_spans_two() -> None:
    generator = np.random.default_rng(0)
    labels, sites, scores = generator.integers(0, 2, 40), np.repeat([0, 1], 20), generator.random(40)
    probabilities = np.stack([1 - scores, scores], axis=1)

    found = hidden_lungs.WithinSiteAUC(labels, probabilities, sites)(np.ones((1, 40)))[0]

    expected = np.mean([hand_till_auc(labels[sites == s], probabilities[sites == s]) for s in (0, 1)])
    assert found == pytest.approx(expected)


def test_a_background_of_the_other_class_flips_a_model_of_the_corner(context: Make) -> None:
    found = background_swap.run(context(reads_corner, make_set(marked=True)))

    assert value(found.statistics, "own class's background minus another class's") > 0.9
    assert value(found.statistics, "flip on a background of another class") == 1.0
    assert value(found.statistics, "flip on a background of own class") == 0.0
    assert found.p_value < 0.001


def test_a_model_of_the_lungs_does_not_see_the_background(context: Make) -> None:
    found = background_swap.run(context(reads_lungs, make_set(marked=True)))

    assert value(found.statistics, "own class's background minus another class's") == pytest.approx(0, abs=1e-12)
    assert found.p_value == 1.0


def test_the_background_of_a_hospital_is_reported_and_is_no_sign(context: Make) -> None:
    def reads_border(images: Tensor) -> FloatArray:
        return two_classes(10 * (images[:, 0, 44:].mean((1, 2)) - 0.22))

    found = background_swap.run(context(reads_border))

    expected = 1 / (1 + np.exp(-10 * (0.05 - 0.22))) - 1 / (1 + np.exp(-10 * (0.4 - 0.22)))
    assert value(found.statistics, "backgrounds of north minus") == pytest.approx(expected, abs=0.02)
    assert found.p_value > 0.05


def test_the_positive_control_asks_whether_the_classes_are_told_apart(context: Make) -> None:
    def reads_lungs_inverted(images: Tensor) -> FloatArray:
        return reads_lungs(images)[:, ::-1]

    passed, constant, inverted = (
        whole_images.run(context(m)) for m in (reads_lungs, ignores_all, reads_lungs_inverted)
    )

    assert passed.p_value < 0.001
    assert passed.reason == ""
    assert constant.p_value == pytest.approx(0.5)
    assert "not better than chance" in constant.reason
    assert inverted.p_value > 0.99
    assert "worse than chance" in inverted.reason


def test_a_model_of_a_corner_does_not_depend_on_the_lungs(context: Make) -> None:
    """The corner varies between patients, and without any relation to the class."""
    data = make_set()
    data.images[::3, :, *MARK] = 0.9
    corner = lung_dependence.run(context(reads_corner, data))
    lungs = lung_dependence.run(context(reads_lungs, data))

    assert value(corner.statistics, "other patient's lungs") == 0.0
    assert corner.p_value < 0.01
    assert lungs.p_value > 0.99
    assert lung_dependence.run(context(ignores_all, data)).p_value is None


def test_a_mark_that_reverses_the_answer_is_a_shortcut_whatever_the_training_hospitals_show(context: Make) -> None:
    """Images without any mark, as the audited hospitals have them: the model calls them all normal."""
    found = imposed_changes.run(context(reads_corner, make_set(patients=20)))

    assert found.p_value < 0.001
    marks = {s.name: s.value for s in found.statistics if s.name.startswith("corner text, top left")}
    assert [name.rpartition(": ")[2] for name in marks] == [
        "move of the AUC of 'ill'", "shift of its probability, classes weighing the same",
    ]  # fmt: skip
    move, shift = marks.values()
    assert move > 0.9
    assert shift > imposed_changes.SHIFT


@pytest.mark.parametrize("model", [reads_lungs, ignores_all])
def test_no_change_of_the_background_moves_a_model_of_the_lungs(
    context: Make, model: Callable[[Tensor], FloatArray]
) -> None:
    found = imposed_changes.run(context(model, make_set(patients=20)))

    moves = {s.name: s.value for s in found.statistics if "move of the AUC" in s.name}
    assert all(abs(v) < 1e-9 for name, v in moves.items() if name.split(",")[0] in ("corner text", "marker", "border"))
    assert found.p_value == 1.0


def fine_detail(images: Tensor) -> FloatArray:
    """Energy of differences between neighbours: more in sharp and in noisy images."""
    return (images[:, 0, :, 1:] - images[:, 0, :, :-1]).abs().mean((1, 2)).double().numpy()


def reads_detail(images: Tensor) -> FloatArray:
    """Ill if an image is blurred; half of the audited images lie on either side of the limit by their lungs."""
    lungs = images[:, 0, 18:30, 16:32].mean((1, 2)).double().numpy()
    p = 1 / (1 + np.exp(-(60 * (lungs - 0.5) + 900 * (0.034 - fine_detail(images)))))
    return np.stack([1 - p, p], axis=1)


def training_set(*, blurred: bool) -> AuditSet:
    """A training hospital, its ill blurred or not."""
    data = make_set(patients=60, seed=5)
    ill = torch.from_numpy(data.labels == 1)
    images = torch.where(ill[:, None, None, None] & blurred, blur(data.images, data.masks, 1.0), data.images)
    return replace(data, images=images)


def test_a_change_that_moves_the_answer_is_a_shortcut_if_the_classes_of_the_training_hospitals_differ_in_it(
    context: Make,
) -> None:
    def audited(training: AuditSet | None) -> ProbeResult:
        known = None if training is None else TrainingImages(training)
        return imposed_changes.run(replace(context(reads_detail), training=known))

    differ, alike, unknown = audited(training_set(blurred=True)), audited(training_set(blurred=False)), audited(None)

    assert differ.p_value < 0.001
    assert differ.statistics[0].name.startswith("blur")
    assert differ.telling.startswith("blur, ")
    assert "for 'ill'" in differ.telling
    assert "AUC of 'ill' looking so" in differ.statistics[2].name
    assert (alike.p_value, alike.undecided) == (1.0, False)
    assert "blur" in alike.reason
    assert (unknown.p_value, unknown.undecided) == (1.0, True)
    assert "name their manifests with --training" in unknown.reason


def test_the_move_of_the_auc_is_that_of_a_shortcut_of_the_class_against_one_of_the_others() -> None:
    labels, plain, changed = np.array([0, 0, 1, 1]), np.array([0.2, 0.6, 0.5, 0.7]), np.array([0.8, 0.9, 0.85, 0.95])

    move = imposed_changes.MoveOfAUC(labels, plain, changed)(np.ones((1, 4)))[0]

    assert move == pytest.approx(
        roc_auc_score(labels, [0.2, 0.6, 0.85, 0.95]) - roc_auc_score(labels, [0.8, 0.9, 0.5, 0.7])
    )


def test_the_site_probe_predicts_the_hospital_where_features_have_it(context: Make) -> None:
    def features(images: Tensor) -> FloatArray:
        return images[:, 0].mean(2).double().numpy()

    def reads_border(images: Tensor) -> FloatArray:
        return two_classes(8 * (images[:, 0, 44:].mean((1, 2)) - 0.2))

    data = make_set(lopsided=True)
    found = site_probe.run(context(reads_border, data, features=features))
    silent = site_probe.run(context(reads_lungs, data, features=features))
    useless = site_probe.run(context(reads_border, features=features))

    assert value(found.statistics, "from features, background only") == 1.0
    assert value(found.statistics, "from features, lungs only") < 0.8
    assert found.p_value < 0.001
    assert value(silent.statistics, "from features, background only") == 1.0
    assert silent.p_value == 1.0
    assert useless.p_value is None
    assert "of no use" in useless.reason


def test_the_site_probe_predicts_patients_that_it_has_not_seen() -> None:
    """Features that identify the patient only carry no information on another patient's hospital."""
    data = make_set(patients=40, per_patient=4)
    features = np.eye(40)[data.patients]

    predicted = site_probe.predicted_sites(features, data, 0)

    assert np.mean(predicted == data.sites) < 0.7


def test_the_site_probe_reports_when_hospital_and_class_are_one(context: Make) -> None:
    data = make_set()
    object.__setattr__(data, "sites", data.labels)

    found = site_probe.run(context(reads_lungs, data, features=lambda images: images[:, 0, 0].double().numpy()))

    assert found.p_value is None
    assert "class and hospital are one" in found.reason


def test_relevance_is_counted_per_class_and_hospital(context: Make) -> None:
    inside, outside = (relevance_share.run(context(reads_lungs, heatmaps=maps_at(*place))) for place in (LUNGS, MARK))

    shares = {m.name: m.value for m in inside.statistics if m.name.startswith("share")}
    assert set(shares.values()) == {1.0}
    assert "share of relevance in the lungs, ill, south" in shares
    assert len(shares) == 5
    assert inside.p_value == 1.0
    assert outside.p_value < 0.001


def test_erasing_the_corner_matters_to_a_model_of_the_corner(context: Make) -> None:
    def maps(images: Tensor) -> FloatArray:
        return maps_at(*MARK)(images) + 0.1 * maps_at(*LUNGS)(images)

    data = make_set(marked=True)
    corner = pixel_erasure.run(context(reads_corner, data, heatmaps=maps))
    lungs = pixel_erasure.run(context(reads_lungs, data, heatmaps=maps))

    assert value(corner.statistics, "deletion: mean fall") > 0.1
    assert value(corner.statistics, "deletion of 10% of the image, inside") == 0.0
    assert corner.p_value < 0.01
    assert value(lungs.statistics, "deletion of 10% of the image, outside") == 0.0
    assert lungs.p_value > 0.5


def test_maps_that_stay_with_random_weights_are_found(context: Make) -> None:
    edges = maps_at(slice(0, 48), slice(0, 48))
    same = context(reads_lungs, heatmaps=edges, randomised=lambda share, seed: edges)
    other = context(reads_lungs, heatmaps=edges, randomised=noise)

    stays, changes = weight_randomisation.run(same), weight_randomisation.run(other)

    assert value(stays.statistics, "absolute maps, all layers") == pytest.approx(1.0)
    assert abs(value(changes.statistics, "absolute maps, all layers")) < 0.05


def test_the_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    first, second = np.random.default_rng(0).integers(0, 9, (2, 3, 6, 6)).astype(float)

    found = weight_randomisation.rank_correlation(first, second)

    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, expected)
    assert np.isnan(weight_randomisation.rank_correlation(first, torch.ones(3, 6, 6).numpy())).all()
