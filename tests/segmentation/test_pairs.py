import numpy as np
import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifest
from cxr_isnet.segmentation.pairs import patient_folds, read_pairs, read_splits

from .conftest import two_lungs


def keys(frame: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(frame["site"], frame["patient_id"], strict=True))


def test_pairs_are_the_rows_whose_mask_somebody_drew(write_xrays):
    lungs = two_lungs()
    manifest = write_xrays([lungs] * 3, [lungs, None, lungs])
    table = pd.read_csv(manifest, keep_default_na=False)
    table.assign(mask_source=["drawn", "", "predicted by 0123456789abcdef"]).to_csv(manifest, index=False)

    assert [path.rsplit("/", 1)[1] for path in read_pairs([str(manifest)])["image"]] == ["x0.png"]


def test_no_pair_at_all_is_refused(write_xrays):
    with pytest.raises(InputError, match="no image has a given lung mask"):
        read_pairs([str(write_xrays([two_lungs()] * 2))])


def test_a_mask_that_does_not_fit_is_refused_before_training(write_xrays):
    manifest = write_xrays([two_lungs()] * 2, [two_lungs(), two_lungs(50, 50)])

    with pytest.raises(InputError, match=r"m1\.png.*50 x 50"):
        read_pairs([str(manifest)])


def test_validation_patients_are_not_trained_on(phantom_manifest, external_manifest):
    parts = read_splits([str(phantom_manifest)], [str(external_manifest)], 0.3, seed=0)

    assert not keys(parts.training) & keys(parts.validation)
    assert len(parts.training) + len(parts.validation) == 12
    assert parts.tests["validation"] is parts.validation
    assert set(parts.tests["external"]["site"]) == {"Birch"}


def test_an_external_site_that_is_trained_on_is_refused(phantom_manifest, tmp_path):
    read_manifest(phantom_manifest).to_csv(tmp_path / "copy.csv", index=False)

    with pytest.raises(InputError, match=r"Alder.*unseen"):
        read_splits([str(phantom_manifest)], [str(tmp_path / "copy.csv")], 0.3, seed=0)


@pytest.fixture
def frame() -> pd.DataFrame:
    """Forty images of 25 patients of two sites, patient ids in common, a given split that is to be ignored."""
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(40)],
            "label": generator.choice(["normal", "covid"], 40),
            "patient_id": [str(number) for number in generator.integers(0, 15, 40)],
            "site": ["Alder"] * 25 + ["Birch"] * 15,
            "split": "train",
        }
    )


def test_each_image_is_tested_in_one_fold_and_no_patient_of_it_is_trained_on_or_validates(frame):
    folds = list(patient_folds(frame, 3, 0.2, seed=0))

    tested = [image for parts in folds for image in parts.tests["test"]["image"]]
    assert sorted(tested) == sorted(frame["image"])
    for parts in folds:
        groups = [keys(parts.training), keys(parts.validation), keys(parts.tests["test"])]
        assert all(groups)
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert set(parts.tests["test"]["site"]) == {"Alder", "Birch"}


def test_folds_depend_on_the_seed_only(frame):
    first, again, other = (
        [list(parts.tests["test"]["image"]) for parts in patient_folds(frame, 3, 0.2, seed=seed)] for seed in (0, 0, 1)
    )

    assert first == again
    assert first != other


def test_more_folds_than_patients_are_refused(frame):
    with pytest.raises(InputError, match="do not make 60 folds"):
        next(patient_folds(frame, 60, 0.2, seed=0))
