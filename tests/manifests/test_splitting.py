import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import split_by_patient

FRAMES = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 12), st.sampled_from(["normal", "ill", "other"])),
    min_size=1,
    max_size=60,
).map(lambda rows: frame_of([(site, f"{number:02d}", label) for site, number, label in rows]))


def frame_of(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["site", "patient_id", "label"])
    return frame.assign(split="", image=[f"{number}.png" for number in range(len(frame))])


@settings(max_examples=60, deadline=None)
@given(frame=FRAMES, fraction=st.floats(0, 0.9), seed=st.integers(0, 5))
def test_no_patient_is_in_two_splits(frame, fraction, seed):
    split = split_by_patient(frame, validation_fraction=fraction, seed=seed)

    assert set(split["split"]) <= {"train", "val"}
    assert (split.groupby(["site", "patient_id"])["split"].nunique() == 1).all()
    assert (split["split"] == "train").any()


@settings(max_examples=30, deadline=None)
@given(frame=FRAMES, order=st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(frame, order):
    shuffled = frame.iloc[order.sample(range(len(frame)), len(frame))]

    first = split_by_patient(frame, validation_fraction=0.3, seed=0)
    second = split_by_patient(shuffled, validation_fraction=0.3, seed=0)

    assert first["split"].to_dict() == second["split"].to_dict()


def test_each_label_gets_its_share():
    rows = [("A", str(number), "ill" if number < 20 else "normal") for number in range(100)]

    split = split_by_patient(frame_of(rows), validation_fraction=0.25, seed=3)

    counts = split[split["split"] == "val"]["label"].value_counts()
    assert counts.to_dict() == {"normal": 20, "ill": 5}


def test_seed_chooses_the_patients():
    frame = frame_of([("A", str(number), "ill") for number in range(40)])

    splits = [split_by_patient(frame, validation_fraction=0.5, seed=seed)["split"].tolist() for seed in (0, 0, 1)]

    assert splits[0] == splits[1] != splits[2]


def test_same_id_at_two_sites_is_two_patients():
    frame = frame_of([("A", "1", "ill"), ("B", "1", "ill")])

    assert set(split_by_patient(frame, validation_fraction=0.5, seed=0)["split"]) == {"train", "val"}


def test_given_splits_are_kept():
    frame = frame_of([("A", "1", "ill"), ("A", "2", "ill")]).assign(split=["test", "val"])

    assert split_by_patient(frame, validation_fraction=0.5, seed=0)["split"].tolist() == ["test", "val"]


def test_partly_given_splits_are_an_error():
    frame = frame_of([("A", "1", "ill"), ("A", "2", "ill")]).assign(split=["train", ""])

    with pytest.raises(InputError, match=r"column 'split' is filled in 1 rows and empty in 1"):
        split_by_patient(frame, validation_fraction=0.5, seed=0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_out_of_range_is_an_error(fraction):
    with pytest.raises(InputError, match="validation_fraction"):
        split_by_patient(frame_of([("A", "1", "ill")]), validation_fraction=fraction, seed=0)
