"""`cxr-isnet evaluate` on tables of predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxr_isnet.cli import main
from cxr_isnet.commands.evaluate import EvaluateConfig, evaluate, named_tables
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.report import FILES
from cxr_isnet.manifests import read_manifest
from cxr_isnet.tracking import TrackingConfig


@pytest.fixture
def predictions(phantom_manifest: Path, tmp_path: Path) -> Path:
    """Somebody's predictions of the phantoms: file names and probabilities, nothing else."""
    images = read_manifest(phantom_manifest)["image"]
    chance = [0.05 + 0.9 * (number * 7 % len(images)) / len(images) for number in range(len(images))]
    table = pd.DataFrame({"path": [Path(image).name for image in images], "probability_normal": chance})
    table["probability_tuberculosis"] = 1 - table["probability_normal"]
    table.to_csv(tmp_path / "theirs.csv", index=False)
    return tmp_path / "theirs.csv"


def test_predictions_alone_are_judged_with_what_a_manifest_adds(
    predictions: Path, phantom_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        [
            "evaluate",
            f"--predictions={predictions}",
            f"--manifest=[{phantom_manifest}]",
            f"--output={tmp_path / 'out'}",
            "--prevalence={tuberculosis: 0.01}",
            "--resamples=20",
            "--tracking.enabled=false",
        ]
    )

    assert "theirs" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["models"]["theirs"]["sites"]["Alder"]["result"]["n_images"] == 12
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILES)


def test_several_predictions_have_names_and_a_validation_table_each(
    predictions: Path, phantom_manifest: Path, tmp_path: Path
) -> None:
    text = evaluate(
        EvaluateConfig(
            output=str(tmp_path / "out"),
            manifest=[str(phantom_manifest)],
            predictions={"ours": str(predictions), "theirs": str(predictions)},
            validation={"ours": str(predictions), "theirs": str(predictions)},
            resamples=20,
            tracking=TrackingConfig(enabled=False),
        )
    )

    assert "ours" in text
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["comparisons"][0]["within_sites"]["auc"]["mean"]["estimate"] == 0
    assert content["models"]["ours"]["internal"] is not None


def test_tables_of_controls_are_read_by_their_names(predictions: Path, phantom_manifest: Path, tmp_path: Path) -> None:
    images = read_manifest(phantom_manifest)
    control = pd.read_csv(predictions).assign(
        site=images["site"], label=images["label"], patient_id=images["patient_id"]
    )
    control.to_csv(tmp_path / "control.csv", index=False)

    text = evaluate(
        EvaluateConfig(
            output=str(tmp_path / "out"),
            manifest=[str(phantom_manifest)],
            predictions=str(predictions),
            controls=[f"thumbnail={tmp_path / 'control.csv'}"],
            resamples=20,
            tracking=TrackingConfig(enabled=False),
        )
    )

    assert "theirs is no better than the thumbnail" in text
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["controls"]["Alder"][0]["minus_control"]["theirs"]["estimate"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"predictions": "a.csv", "sensitivity": 0.9}, "needs a validation table"),
        ({"predictions": "a.csv", "resamples": 0}, "resamples is 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EvaluateConfig(output="out", **settings)


def test_tables_of_one_name_need_names() -> None:
    assert named_tables(["x/a.csv", "x/b.csv"]) == {"a": "x/a.csv", "b": "x/b.csv"}
    assert named_tables(["ours=x/a.csv", "theirs=y/a.csv"]) == {"ours": "x/a.csv", "theirs": "y/a.csv"}
    with pytest.raises(InputError, match="different file names"):
        named_tables(["x/a.csv", "y/a.csv"])


def test_an_audit_that_is_none_is_refused(predictions: Path, phantom_manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text("{}")
    config = EvaluateConfig(
        output=str(tmp_path / "out"),
        manifest=[str(phantom_manifest)],
        predictions=str(predictions),
        audit=str(tmp_path / "audit.json"),
        resamples=20,
    )

    with pytest.raises(InputError, match=r"Name an audit\.json"):
        evaluate(config)

    assert not (tmp_path / "out").exists()
