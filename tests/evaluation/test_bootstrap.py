import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cxr_isnet.evaluation.bootstrap import CHUNK_CELLS, PatientBootstrap, paired_difference
from cxr_isnet.evaluation.interval import Interval, IntervalMethod
from cxr_isnet.evaluation.metrics import WeightedMean
from cxr_isnet.evaluation.ranking import HandTillAUC


def accuracy(labels, scores):
    return WeightedMean((labels == scores.argmax(axis=1)).astype(float))


def interval(patients, values, resamples=2000, seed=0, kind=IntervalMethod.BCA) -> Interval:
    bootstrap = PatientBootstrap(np.asarray(patients), resamples=resamples, seed=seed, method=kind)
    return bootstrap.intervals({"mean": WeightedMean(np.asarray(values, dtype=float))})["mean"]


@pytest.mark.parametrize(("kind", "method"), [(IntervalMethod.BCA, "BCa"), (IntervalMethod.PERCENTILE, "percentile")])
def test_with_one_image_per_patient_it_is_the_bootstrap_of_scipy(kind, method):
    values = np.random.default_rng(1).exponential(size=80)

    found = interval(np.arange(80), values, resamples=10_000, kind=kind)

    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method=method, rng=np.random.default_rng(2)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.02)


def test_it_is_the_plain_loop_over_drawn_patients():
    generator = np.random.default_rng(3)
    patients = np.sort(generator.integers(25, size=80))
    patients = np.unique(patients, return_inverse=True)[1]
    values = generator.normal(size=80) + generator.normal(size=25)[patients % 25]
    looped = []
    for _ in range(4000):
        drawn = generator.integers(patients.max() + 1, size=patients.max() + 1)
        looped.append(np.concatenate([values[patients == patient] for patient in drawn]).mean())

    found = interval(patients, values, resamples=4000, kind=IntervalMethod.PERCENTILE)

    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(looped, [2.5, 97.5])), abs=0.04)


def test_images_of_a_patient_are_drawn_together():
    patients = np.repeat(np.arange(5), 3)

    for weights in PatientBootstrap(patients, resamples=50).weights():
        per_patient = weights.reshape(-1, 5, 3)
        assert (per_patient == per_patient[:, :, :1]).all()
        np.testing.assert_array_equal(per_patient[:, :, 0].sum(axis=1), 5)


def test_repeated_images_of_the_same_patients_do_not_narrow_the_interval():
    values = np.random.default_rng(4).normal(size=40)

    once = interval(np.arange(40), values)
    tenfold = interval(np.repeat(np.arange(40), 10), np.repeat(values, 10))

    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    patients = np.repeat(np.arange(60), 3)
    covered = 0
    for run in range(300):
        values = generator.normal(size=60)[patients] + generator.normal(size=180)
        found = interval(patients, values, resamples=300, seed=run)
        covered += found.low <= 0.0 <= found.high

    assert 0.90 <= covered / 300 <= 0.98


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(6).normal(size=30)

    assert interval(np.arange(30), values, seed=7) == interval(np.arange(30), values, seed=7)
    assert interval(np.arange(30), values, seed=7) != interval(np.arange(30), values, seed=8)


def test_models_are_compared_on_the_same_resamples():
    values = np.random.default_rng(3).normal(size=50)
    noise = np.random.default_rng(4).normal(size=50, scale=0.1)
    first, second = (
        PatientBootstrap(np.arange(50)).resample({"mean": WeightedMean(v)}) for v in (values + noise, values)
    )

    found = paired_difference(first, second, "mean")

    alone = interval(np.arange(50), noise)
    assert (found.estimate, found.low, found.high) == pytest.approx((alone.estimate, alone.low, alone.high))


def test_resamples_that_all_agree_say_nothing_of_the_uncertainty():
    found = interval(np.arange(20), np.ones(20))

    assert found.estimate == 1
    assert np.isnan([found.low, found.high]).all()


def test_one_patient_alone_has_a_value_and_no_interval():
    found = interval([0, 0, 0], [0.1, 0.2, 0.3])

    assert found.estimate == pytest.approx(0.2)
    assert np.isnan([found.low, found.high]).all()
    assert found.resamples_used == 0


def test_resamples_that_lack_a_class_are_left_out_and_counted():
    labels = np.array([0, 0, 0, 0, 1])
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.4, 0.6]])
    bootstrap = PatientBootstrap(np.arange(5), resamples=2000)

    found = bootstrap.intervals({"auc": HandTillAUC(labels, scores), "accuracy": accuracy(labels, scores)})

    lacking = 0.8**5 + 0.2**5
    assert found["auc"].resamples_used == pytest.approx(2000 * (1 - lacking), abs=80)
    assert found["accuracy"].resamples_used == 2000


def test_blocks_hold_all_the_resamples_that_were_asked_for():
    patients = np.arange(CHUNK_CELLS // 4)

    rows = [len(weights) for weights in PatientBootstrap(patients, resamples=6).weights()]

    assert rows == [4, 2]


def test_a_patient_is_a_site_and_an_id_together():
    frame = pd.DataFrame({"site": ["a", "b", "a", "b"], "patient_id": ["1", "1", "1", "2"]})

    assert PatientBootstrap.of(frame).patients.tolist() == [0, 1, 0, 2]


def hospital(site, patients):
    return pd.DataFrame({"site": site, "patient_id": [f"p{number}" for number in range(patients)]})


def test_patients_are_drawn_within_their_site():
    frame = pd.concat([hospital("a", 7), hospital("b", 3)], ignore_index=True).sample(frac=1, random_state=0)

    (weights,) = PatientBootstrap.of(frame, resamples=200).weights()

    at_a = (frame["site"] == "a").to_numpy()
    assert set(weights[:, at_a].sum(axis=1)) == {7}
    assert set(weights[:, ~at_a].sum(axis=1)) == {3}
    assert weights.std(axis=0).min() > 0.5
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.3)


def test_other_patients_are_drawn_independently_with_the_same_seed_and_the_same_patients_alike():
    draws = {
        name: np.concatenate(list(PatientBootstrap.of(frame, resamples=400).weights()))
        for name, frame in {
            "inside": hospital("a", 40), "again": hospital("a", 40), "outside": hospital("b", 40)
        }.items()
    }  # fmt: skip

    assert (draws["inside"] == draws["again"]).all()
    correlations = [np.corrcoef(draws["inside"][:, n], draws["outside"][:, n])[0, 1] for n in range(40)]
    assert abs(np.mean(correlations)) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["auc", "accuracy"])
def test_bca_intervals_cover_as_often_as_they_say_when_patients_have_several_images(metric):
    generator = np.random.default_rng(8)
    patients = np.repeat(np.arange(200), 1 + np.arange(200) % 3)

    def hospital(patients, n_patients):
        ill = (generator.random(n_patients) < 0.4)[patients].astype(np.int64)
        score = generator.normal(size=n_patients)[patients] + generator.normal(size=len(patients)) + 1.5 * ill
        chance = 1 / (1 + np.exp(0.75 - score))
        probabilities = np.stack([1 - chance, chance], axis=1)
        return {"auc": HandTillAUC, "accuracy": accuracy}[metric](ill, probabilities)

    everyone = np.repeat(np.arange(300_000), 1 + np.arange(300_000) % 3)
    truth = float(hospital(everyone, 300_000)(np.ones((1, len(everyone))))[0])
    covered = 0
    for run in range(1000):
        found = PatientBootstrap(patients, 1000, run).intervals({"it": hospital(patients, 200)})["it"]
        covered += found.low <= truth <= found.high

    assert 0.93 <= covered / 1000 <= 0.97
