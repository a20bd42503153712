import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.predictions import read_predictions
from cxr_isnet.evaluation.report import DISCLAIMER, write_evaluation

from .conftest import THREE


@pytest.fixture
def two_sites(make_predictions):
    return make_predictions(sites=("north", "St. Mary / B"))


def test_it_leaves_table_numbers_and_figures(two_sites, tmp_path):
    write_evaluation(tmp_path / "out", two_sites, THREE, resamples=20, galleries={"heatmaps": Figure()})

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "confusion_St._Mary_B.png",
        "confusion_north.png",
        "confusion_pooled.png",
        "heatmaps.png",
        "metrics.csv",
        "metrics.json",
        "predictions.csv",
        "roc.png",
    ]


def test_the_json_holds_the_results_and_what_this_is_not(two_sites, tmp_path):
    results = write_evaluation(tmp_path, two_sites, THREE, resamples=20, seed=3)

    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["disclaimer"] == DISCLAIMER
    assert "not a medical device" in DISCLAIMER
    assert written["sites"] == {site: result.to_dict() for site, result in results.items()}
    assert (written["interval"]["resamples"], written["interval"]["seed"]) == (20, 3)


def test_the_csv_has_a_row_per_site_and_metric(two_sites, tmp_path):
    results = write_evaluation(tmp_path, two_sites, THREE, resamples=20)

    table = pd.read_csv(tmp_path / "metrics.csv", keep_default_na=False).set_index(["site", "class", "metric"])
    assert len(table) == 3 * (5 + 3 * 7)
    row = table.loc[("north", "", "auc")]
    expected = results["north"].auc
    assert tuple(float(row[end]) for end in ("value", "low", "high")) == (expected.value, expected.low, expected.high)


def test_the_table_that_was_judged_is_kept(two_sites, tmp_path):
    write_evaluation(tmp_path, two_sites, THREE, resamples=20)

    pd.testing.assert_frame_equal(read_predictions(tmp_path / "predictions.csv", THREE), two_sites, check_dtype=False)


def test_a_bad_table_leaves_nothing(two_sites, tmp_path):
    two_sites.loc[0, "probability_covid"] = np.nan

    with pytest.raises(InputError, match="probability_covid"):
        write_evaluation(tmp_path / "out", two_sites, THREE)

    assert not (tmp_path / "out").exists()


def test_two_sites_that_would_share_a_file_are_refused(make_predictions, tmp_path):
    with pytest.raises(InputError, match=r"confusion_a_b\.png.*Rename"):
        write_evaluation(tmp_path / "out", make_predictions(sites=("a b", "a/b")), THREE, resamples=20)

    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_told(two_sites, tmp_path):
    (tmp_path / "out").write_text("")

    with pytest.raises(InputError, match=r"out: is, or lies below, a file"):
        write_evaluation(tmp_path / "out", two_sites, THREE, resamples=20)
