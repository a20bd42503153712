"""The gate: every rule by predictions whose numbers are known, and what is missing never passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_isnet.deployment import Decision, Evidence, GateConfig, GateMetric, decide, read_gate
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import check_predictions

CLASSES = ("normal", "tuberculosis")
GATE = GateConfig(resamples=200)


def table(strength: float, *, seed: int = 0, patients: int = 200, sites: tuple[str, ...] = ("A", "B")) -> pd.DataFrame:
    """Predictions whose log odds are apart by `strength` standard deviations, calibrated, of the same patients."""
    random = np.random.default_rng(seed)
    label = np.arange(patients) % 2
    noise = np.random.default_rng(99 + seed).normal(size=patients)
    chance = 1 / (1 + np.exp(-strength * (strength * (label - 0.5) + noise)))
    frame = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(patients)],
            "patient_id": [str(i) for i in range(patients)],
            "site": [sites[(i // 2) % len(sites)] for i in range(patients)],
            "label": [CLASSES[i] for i in label],
            "probability_normal": 1 - chance,
            "probability_tuberculosis": chance,
            "model_uri": "x",
            "relevance_in_lung": 0.8 + 0.05 * random.random(patients),
            "relevance_null": 0.3,
        }
    )
    return check_predictions(frame, CLASSES)


def evidence(strength: float = 2.0, name: str = "m version 2", **changes: object) -> Evidence:
    known = {
        "external": table(strength),
        "validation": table(strength, seed=1).assign(site="T"),
        "thumbnail": table(0.2, seed=2),
        "temperature": 1.0,
        "audit_verdict": "none found among those examined",
        "seen_digests": frozenset({"a"}),
        "external_digests": frozenset({"b"}),
    }
    return Evidence(name, **{**known, **changes})


def failed(decision: Decision) -> list[str]:
    return [check.rule for check in decision.checks if not check.passed]


def reason(decision: Decision, rule: str) -> str:
    return next(check.reason for check in decision.checks if check.rule == rule)


def test_a_model_with_all_evidence_and_no_champion_passes() -> None:
    decision = decide(evidence(), None, GATE)

    assert failed(decision) == []
    assert decision.passed
    assert [c.rule for c in decision.checks] == [
        "external hospitals", "floor", "champion", "thumbnail", "relevance", "audit", "calibration", "unseen data"
    ]  # fmt: skip
    assert reason(decision, "champion") == "there is no champion yet"


@pytest.mark.parametrize("metric", list(GateMetric))
@pytest.mark.parametrize(
    ("ours", "theirs", "passes", "words"),
    [
        (3.0, 1.2, True, "better than it"),
        (2.0, 2.0, True, "not inferior to it"),
        (1.4, 3.0, False, "not shown to be as good as it"),
    ],
    ids=["better", "equal", "worse"],
)
def test_a_model_is_compared_with_the_champion_on_the_same_patients(
    ours: float, theirs: float, passes: bool, words: str, metric: GateMetric
) -> None:
    decision = decide(evidence(ours), evidence(theirs, "m version 1"), replace(GATE, metric=metric, floor=0.5))

    assert ("champion" not in failed(decision)) == passes
    assert words in reason(decision, "champion")
    assert "on 200 patients" in reason(decision, "champion")


def test_telling_hospitals_apart_earns_nothing() -> None:
    """Hospital B is ill, A is well, and the model knows which is which: a pooled AUC of 0.9, none inside."""
    frame = table(0.0)
    ill = (frame["site"] == "B") ^ (np.arange(len(frame)) % 10 == 0)
    frame["label"] = np.where(ill, "tuberculosis", "normal")
    frame["probability_tuberculosis"] = np.where(frame["site"] == "B", 0.9, 0.1)
    frame["probability_normal"] = 1 - frame["probability_tuberculosis"]

    decision = decide(evidence(external=frame), None, GATE)

    assert "floor" in failed(decision)
    assert "within_site_auc is 0.500" in reason(decision, "floor")


def test_the_lower_end_of_the_interval_counts_and_not_the_estimate() -> None:
    few = evidence(1.5, external=table(1.5, patients=60))
    found = float(reason(decide(few, None, GATE), "floor").split("is ")[1].split(" ")[0])

    decision = decide(few, None, replace(GATE, floor=found - 0.02))

    assert "floor" in failed(decision)
    assert "floor" not in failed(decide(few, None, replace(GATE, floor=found - 0.3)))


@pytest.mark.parametrize(
    ("changes", "rule", "words"),
    [
        ({"external": None}, "floor", "no evidence: .* evaluated on no external hospital"),
        ({"thumbnail": None}, "thumbnail", "no evidence: the run has no predictions of the thumbnail control"),
        ({"thumbnail": table(2.5)}, "thumbnail", "less that of the thumbnail control is -"),
        ({"external": table(2.0).drop(columns="relevance_null")}, "relevance", "no evidence: .*lack the column"),
        ({"external": table(2.0).assign(relevance_in_lung=np.nan)}, "relevance", "no evidence: .*lung masks"),
        ({"external": table(2.0).assign(relevance_in_lung=0.35)}, "relevance", r"is 0\.050"),
        ({"audit_verdict": ""}, "audit", "no evidence: this model has no audit"),
        ({"audit_verdict": "shortcut found"}, "audit", "the audit says 'shortcut found'"),
        ({"audit_verdict": "shortcut found"}, "audit", "shortcut found"),
        ({"audit_verdict": "cannot tell"}, "audit", "cannot tell"),
        ({"audit_verdict": "not applicable"}, "audit", "not applicable"),
        ({"temperature": None}, "calibration", "no evidence: .*temperature"),
        ({"temperature": 20.0}, "calibration", "expected calibration error of (normal|tuberculosis) is 0.[2-4]"),
        ({"seen_digests": None}, "unseen data", "no evidence"),
        ({"external_digests": frozenset()}, "unseen data", "no evidence"),
        ({"external_digests": frozenset({"a", "c"})}, "unseen data", "an external table is one of training"),
        ({"validation": table(2.0)}, "unseen data", "200 external patients are in-domain validation patients"),
        ({"validation": None}, "unseen data", "no evidence"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_hold_or_lacks_its_evidence_stops_the_model(
    changes: dict[str, object], rule: str, words: str
) -> None:
    decision = decide(evidence(**changes), None, GATE)

    assert not decision.passed
    assert rule in failed(decision)
    assert pd.Series([reason(decision, rule)]).str.contains(words, regex=True).all(), reason(decision, rule)


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"external": None}, "m version 1 was evaluated on no external hospital"),
        ({"external": table(2.0).assign(patient_id=lambda t: "x" + t["patient_id"])}, "share 0 patients, 50"),
        ({"external": table(2.0).head(60).tail(40)}, "share 40 patients, 50 are needed"),
        ({"external": table(2.0).assign(label=lambda t: t["label"].to_numpy()[::-1])}, "labels of .* differ"),
        (
            {"external": table(2.0).rename(columns={"probability_tuberculosis": "probability_covid"}).replace(
                "tuberculosis", "covid")},
            r"tells \['normal', 'covid'\] apart",
        ),
    ],
    ids=["none", "others", "few", "labels", "classes"],
)  # fmt: skip
def test_what_cannot_be_compared_with_the_champion_does_not_replace_it(theirs: dict[str, object], words: str) -> None:
    decision = decide(evidence(), evidence(name="m version 1", **theirs), GATE)

    assert failed(decision) == ["champion"]
    assert pd.Series([reason(decision, "champion")]).str.contains(words, regex=True).all()


def test_a_hospital_that_is_asked_for_must_be_there_with_enough_patients() -> None:
    missing = decide(evidence(), None, replace(GATE, sites=["A", "Montgomery"]))
    few = decide(evidence(), None, replace(GATE, min_patients=201))

    assert failed(missing) == ["external hospitals"]
    assert "not evaluated at Montgomery" in reason(missing, "external hospitals")
    assert failed(few)[0] == "external hospitals"


def test_a_rule_that_is_not_asked_is_not_checked() -> None:
    asked = GateConfig(
        floor=None, margin=None, better_than_thumbnail=False, relevance_excess=None, audit=False, calibration=None,
        unseen_data=False,
    )  # fmt: skip

    decision = decide(Evidence("m", external=table(0.1)), None, asked)

    assert [check.rule for check in decision.checks] == ["external hospitals"]


def test_a_gate_is_read_and_its_faults_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("metric: macro_f1\nfloor: 0.6\naudit: false\ncalibration: null\nsites: [A]\n")

    expected = GateConfig(metric=GateMetric.MACRO_F1, floor=0.6, audit=False, calibration=None, sites=["A"])
    assert read_gate(file) == expected
    for text in ("flor: 0.6", "floor: high", "margin: -1", "[1", "min_patients: 0"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"gate\.yaml: not a gate"):
            read_gate(file)
    with pytest.raises(InputError, match="nowhere"):
        read_gate(tmp_path / "nowhere.yaml")
