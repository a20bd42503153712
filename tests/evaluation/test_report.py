"""What a study leaves behind: files, JSON, table, page and card."""

import base64
import html
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.figures import forest_figure
from cxr_isnet.evaluation.guidelines import answers
from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.page import interval_text
from cxr_isnet.evaluation.predictions_table import check_predictions
from cxr_isnet.evaluation.report import FILES, study_json, study_metrics, study_table, study_text, write_report
from cxr_isnet.evaluation.study import evaluate_tables
from cxr_isnet.files import DISCLAIMER

from .conftest import THREE, TWO
from .schema_check import faults


@pytest.fixture(scope="module")
def written(study, tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "maps.png").write_bytes(b"\x89PNG")
    write_report(folder, study, tables, {"north": folder / "maps.png"})
    return folder


def test_it_leaves_four_files_in_a_folder_that_it_makes(study, tables, tmp_path):
    write_report(tmp_path / "a" / "b", study, tables)

    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted(FILES)


def test_the_json_holds_the_study_and_what_this_is_not(study, written):
    content = json.loads((written / "report.json").read_text())

    assert content["disclaimer"] == DISCLAIMER
    assert "not a medical device" in DISCLAIMER
    assert {name: content[name] for name in study_json(study)} == json.loads(json.dumps(study_json(study)))
    assert (content["settings"]["resamples"], content["settings"]["seed"]) == (200, 0)


def test_the_summary_has_a_column_of_lacking_classes_only_where_one_lacks(make_predictions, tmp_path):
    whole = check_predictions(make_predictions(sites=("north", "south")), THREE)
    part = whole[(whole["site"] != "north") | (whole["label"] != THREE[2])].reset_index(drop=True)
    headings = []
    for table in (whole, part):
        tables = {"isnet": table}
        write_report(tmp_path, evaluate_tables(tables, THREE, {}, Settings(resamples=5, groups=[])), tables)
        summary = (tmp_path / "report.html").read_text().partition("</table>")[0]
        headings.append("Classes without images" in summary)
        assert summary.partition("<tbody>")[0].count("<th ") == 2 + 4 + 2 + headings[-1]  # as many as cells in a row
        assert summary.partition("<tbody>")[2].count("<td") == 4 * (7 + headings[-1])

    assert headings == [False, True]


def test_groups_are_named_in_figures_and_answers_as_in_sentences(make_predictions, tmp_path):
    table = check_predictions(make_predictions().assign(age=[30.0, 50.0] * 30), THREE)
    study = evaluate_tables({"isnet": table}, THREE, {}, Settings(resamples=5, groups=["age_band"]))

    labels = [label.get_text() for label in forest_figure(study.models["isnet"].groups).axes[0].get_yticklabels()]
    assert "age band: 18-39 (n = 30)" in labels
    assert any(answer.answer == "groups: age band" for answer in answers(study))


def test_the_csv_has_a_row_per_site_class_metric_and_method(make_predictions, tmp_path):
    table = check_predictions(make_predictions(sites=("north", "south")), THREE)
    study = evaluate_tables({"isnet": table}, THREE, {}, Settings(resamples=20, groups=[]))
    write_report(tmp_path, study, {"isnet": table})

    rows = pd.read_csv(tmp_path / "metrics.csv", keep_default_na=False)

    at_sites = rows[rows["part"] == "site"]
    by_method = {"score": 6 + 3 * 10, "student": 3 * 2 + 3 * 5, "log": 3 * 3, "delong": 3, "posterior": 3 + 3 * 7}
    by_method["test_inversion"] = 3  # the calibration error
    assert at_sites.groupby("method").size().to_dict() == {method: 3 * count for method, count in by_method.items()}
    assert set(rows["part"]) == {"site", "within sites", "hospitals", "next hospital"}
    assert set(at_sites["group"]) == {"north", "south", "pooled"}
    keys = ["group", "class", "metric", "method"]
    assert not rows.duplicated(["part", *keys]).any()
    row = at_sites.set_index(keys).loc[("north", "covid", "sensitivity", "score")]
    expected = study.models["isnet"].sites["north"].result.by_class["covid"]["sensitivity"]
    found = tuple(float(row[end]) for end in ("estimate", "low", "high"))
    assert found == (expected.estimate, expected.low, expected.high)


def test_a_bad_table_leaves_nothing(study, tables, tmp_path):
    spoilt = tables["plain"].assign(probability_tuberculosis=np.nan)

    with pytest.raises(InputError, match="plain: column 'probability_tuberculosis'"):
        write_report(tmp_path / "out", study, {**tables, "plain": spoilt})

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_place_of_the_folder_is_reported(study, tables, tmp_path, below):
    (tmp_path / "out").write_text("")

    with pytest.raises(InputError, match=r"out.*: is, or lies below, a file\. Name a folder"):
        write_report(tmp_path / "out" / below, study, tables)


def test_sites_without_relevance_are_named_with_the_reason(make_predictions, tmp_path):
    table = make_predictions(sites=("north", "south"))
    north = table["site"] == "north"
    table.loc[north, "relevance_in_lung"] = np.nan
    table["relevance_reason"] = np.where(north, "network 'x' has no relevance rules", "")
    table = check_predictions(table, THREE)
    study = evaluate_tables({"isnet": table}, THREE, {}, Settings(resamples=20))

    write_report(tmp_path, study, {"isnet": table})

    said = "no relevance at north: network 'x' has no relevance rules"
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    card = (tmp_path / "model_card.md").read_text(encoding="utf-8")
    content = json.loads((tmp_path / "report.json").read_text())["models"]["isnet"]["sites"]
    assert all(said in text.lower() for text in (page, card, study_text(study)))
    assert content["north"]["result"]["relevance_reason"] == "network 'x' has no relevance rules"
    assert content["pooled"]["result"]["relevance_reason"] == ""


def test_what_many_sites_lack_is_one_line(make_predictions):
    table = make_predictions(240, sites=[f"ward {number:02d}" for number in range(12)])
    table = table.drop(columns="relevance_in_lung")[(table["label"] != THREE[0]) | (table["site"] == "ward 00")]
    study = evaluate_tables({"theirs": check_predictions(table, THREE)}, THREE, {}, Settings(resamples=10))

    lacking = [line for line in study_text(study).splitlines() if "no image of" in line]
    without = [line for line in study_text(study).splitlines() if "no relevance at" in line]

    named = ", ".join(f"ward {number:02d}" for number in range(1, 7))
    assert lacking == [f"theirs: no image of {THREE[0]} at {named} and 5 more: AUC and means are without it"]
    assert len(without) == 1
    assert "ward 09" not in without[0]


def test_the_text_has_a_line_per_site_with_the_numbers_of_the_summary(study):
    head, *lines = study_text(study).splitlines()

    assert re.split(r"  +", head) == [
        "model", "site", "images", "patients", "AUC", "balanced accuracy", "accuracy", "relevance in lungs",
    ]  # fmt: skip
    cells = {tuple(re.split(r"  +", line)[:2]): re.split(r"  +", line)[2:] for line in lines}
    auc = study.models["plain"].sites["south <b>"].result.metrics["auc"]
    found = cells["plain", "south <b>"]
    assert found[:3] == ["60", "30", interval_text(auc)]
    assert "(~" in found[2]  # fewer than 20 patients are ill
    assert cells["plain", "mean within sites"][0] == interval_text(study.models["plain"].across_sites["auc"].mean)


def test_the_json_is_as_its_schema_says(written):
    schema = json.loads(files("cxr_isnet.evaluation").joinpath("study.schema.json").read_text())
    content = json.loads((written / "report.json").read_text())

    assert faults(content, schema, schema) == []
    broken = json.loads(json.dumps(content))
    del broken["models"]["isnet"]["sites"]["north"]["result"]["metrics"]["auc"]["low"]
    assert faults(broken, schema, schema) == ["$.models.isnet.sites.north.result.metrics.auc.low is missing"]


def test_the_table_holds_what_the_json_holds(study):
    table = study_table(study).set_index(["model", "part", "group", "class", "metric", "method"])

    for name, model in study.models.items():
        for site, there in model.sites.items():
            row = table.loc[(name, "site", site, "", "auc", "score")]
            auc = there.result.metrics["auc"]
            assert (row["estimate"], row["low"]) == (auc.estimate, auc.low)
    assert ("isnet", "internal_minus_external", "north", "", "auc", "mover") in table.index
    assert ("isnet", "by sex", "F", "", "auc", "score") in table.index
    north = study.models["isnet"].sites["north"].result
    assert study_metrics(study)["isnet/within_sites/auc"] == study.models["isnet"].across_sites["auc"].mean.estimate
    assert study_metrics(study)["isnet/north/auc"] == north.metrics["auc"].estimate


class Page(HTMLParser):
    """Tags left open, references of the page, headings, pictures and tables without a description."""

    EMPTY = ("meta", "img", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.headings, self.undescribed, self.tables, self.captions = [], [], [], [], 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.references += [given[key] for key in ("src", "href") if key in given]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" and not given.get("alt"):
            self.undescribed.append(given["src"][:40])
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_described_and_needs_no_network(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text)

    assert page.open == []
    assert all(reference.startswith(("data:image/", "#")) for reference in page.references)
    assert page.undescribed == []
    assert page.tables == page.captions > 5
    assert page.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert text.count(DISCLAIMER) == 2
    assert "south &lt;b&gt;" in text
    assert "south <b>" not in text
    svg = base64.b64decode(next(r for r in page.references if "svg" in r).split(",", 1)[1])
    assert b"<svg" in svg


def test_the_page_tells_audit_numbers_and_guidelines(written, study):
    text = (written / "report.html").read_text(encoding="utf-8")

    auc = study.models["isnet"].sites["north"].result.metrics["auc"]
    assert interval_text(auc) in text
    assert "none found among those examined" in text
    assert "an AUC above chance is a sign" in text
    assert "TRIPOD+AI" in text
    assert "CLAIM 2024" in text


def test_the_card_speaks_of_every_model(written):
    card = (written / "model_card.md").read_text(encoding="utf-8")

    assert "# Model card: isnet" in card
    assert "# Model card: plain" in card
    assert card.count(DISCLAIMER) == 2
    assert "none found among those examined" in card


def test_no_patient_is_named(written):
    assert {path.name for path in written.iterdir()} == {*FILES, "maps.png"}
    for name in FILES:
        assert "patient_id" not in (written / name).read_text(encoding="utf-8")


def test_names_that_a_spreadsheet_a_markdown_page_or_a_terminal_would_run_are_text(tables, tmp_path):
    hostile = {
        "=1+1": tables["isnet"].assign(site=np.where(tables["isnet"]["site"] == "north", "<img src=x>|", "a\x1b[31m"))
    }
    study = evaluate_tables(hostile, TWO, {}, Settings(resamples=20, groups=["site"]))

    write_report(tmp_path, study, hostile)

    rows = (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert all(row.startswith("'=1+1,") for row in rows)
    card = (tmp_path / "model_card.md").read_text(encoding="utf-8")
    assert "&lt;img src=x&gt;\\|" in card
    assert "<img" not in card
    assert "\x1b" not in study_text(study)
