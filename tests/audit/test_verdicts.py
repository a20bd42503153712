"""Verdicts: false alarms of many probes, heatmaps that failed their check, models that lack a capability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from torch import Tensor

from cxr_isnet.audit import AuditContext, TrainingImages, Verdict, overall_verdict, run_probes
from cxr_isnet.audit.probe import Capability, Probe
from cxr_isnet.audit.probes import (
    PROBES,
    background_swap,
    hidden_lungs,
    relevance_share,
    weight_randomisation,
    whole_images,
)
from cxr_isnet.audit.statistics import LEVEL, ProbeResult
from cxr_isnet.audit.verdicts import statement
from cxr_isnet.deployment.gate_rules import AUDIT_PASSED
from cxr_isnet.evaluation.confusion import FloatArray
from tests.audit.conftest import LUNGS, ignores_all, make_set, maps_at, noise, reads_corner, reads_lungs

Make = Callable[..., AuditContext]


def finding(p_value: float | None, name: str = "made_up", needs: tuple[Capability, ...] = ()) -> Probe:
    return Probe(name, name, "?", "", "", needs, lambda _: ProbeResult((), p_value, "nothing to see"))


def test_names_differ_and_every_probe_states_its_rule() -> None:
    assert len({p.name for p in PROBES}) == len(PROBES) == 9
    assert all(p.rule and p.limits and p.question.endswith("?") for p in PROBES)


def test_p_values_are_corrected_for_their_number(context: Make) -> None:
    results = run_probes(context(reads_lungs), [finding(0.02), finding(0.03), finding(0.001)])

    assert [r.adjusted_p for r in results] == pytest.approx([0.04, 0.04, 0.003])
    assert {r.verdict for r in results} == {Verdict.FOUND}
    alone = run_probes(context(reads_lungs), [finding(0.02), finding(0.3), finding(0.4)])
    assert [r.verdict for r in alone] == [Verdict.NONE_FOUND] * 3


def test_a_probe_without_a_p_value_is_not_applicable_and_costs_the_others_nothing(context: Make) -> None:
    results = run_probes(context(reads_lungs), [finding(None), finding(0.04)])

    assert [r.verdict for r in results] == [Verdict.NOT_APPLICABLE, Verdict.FOUND]
    assert results[0].reason == "nothing to see"


def test_what_a_model_lacks_is_reported(context: Make) -> None:
    (result,) = run_probes(context(reads_lungs), [relevance_share.PROBE])

    assert (result.verdict, result.reason) == (Verdict.NOT_APPLICABLE, "the model gives no heatmaps")
    assert overall_verdict([result]) is Verdict.CANNOT_TELL


def test_heatmaps_that_failed_their_check_carry_no_verdict(context: Make) -> None:
    same = maps_at(slice(0, 48), slice(0, 48))
    made = context(reads_lungs, heatmaps=same, randomised=lambda share, seed: same)

    check, share = run_probes(made, [weight_randomisation.PROBE, relevance_share.PROBE])

    assert check.verdict is Verdict.UNSOUND
    assert share.verdict is Verdict.NOT_APPLICABLE
    assert "random weights" in share.reason
    assert share.result.statistics


CONTROLLED = [whole_images.PROBE, hidden_lungs.PROBE, background_swap.PROBE]


def test_a_model_of_the_corner_is_caught_and_a_model_of_the_lungs_is_not(context: Make) -> None:
    data = make_set(marked=True)

    assert overall_verdict(run_probes(context(reads_corner, data), CONTROLLED)) is Verdict.FOUND
    assert overall_verdict(run_probes(context(reads_lungs, data), CONTROLLED)) is Verdict.NONE_FOUND


def reads_lungs_inverted(images: Tensor) -> FloatArray:
    return reads_lungs(images)[:, ::-1]


@pytest.mark.parametrize("model", [ignores_all, reads_lungs_inverted])
def test_a_model_no_better_than_chance_gets_no_verdict_in_its_favour(
    context: Make, model: Callable[[Tensor], FloatArray]
) -> None:
    results = run_probes(context(model), CONTROLLED)

    assert [r.verdict for r in results] == [Verdict.CONTROL_FAILED, Verdict.CANNOT_TELL, Verdict.CANNOT_TELL]
    assert overall_verdict(results) is Verdict.CANNOT_TELL
    assert statement(results).examined == ()
    assert len(statement(results).open) == 3


def test_where_the_relevance_of_a_model_lies_that_tells_nothing_is_no_shortcut(context: Make) -> None:
    corner = maps_at(slice(0, 8), slice(0, 8))
    probes = [whole_images.PROBE, relevance_share.PROBE]

    control, share = run_probes(context(ignores_all, heatmaps=corner), probes)
    told = run_probes(context(reads_lungs, heatmaps=corner), probes)

    assert (share.adjusted_p or 0.0) < LEVEL
    assert (control.verdict, share.verdict) == (Verdict.CONTROL_FAILED, Verdict.CANNOT_TELL)
    assert overall_verdict([control, share]) is Verdict.CANNOT_TELL
    assert "where such a model's relevance lies shows nothing" in share.reason
    assert [outcome.verdict for outcome in told] == [Verdict.CONTROL_PASSED, Verdict.FOUND]


def test_without_the_positive_control_nothing_is_told(context: Make) -> None:
    assert overall_verdict(run_probes(context(reads_lungs), [hidden_lungs.PROBE])) is Verdict.CANNOT_TELL


def test_what_a_probe_leaves_open_leaves_the_audit_open(context: Make) -> None:
    def run(_: AuditContext) -> ProbeResult:
        return ProbeResult((), 1.0, "it moves with blur", undecided=True)

    results = run_probes(context(reads_lungs), [whole_images.PROBE, replace(finding(1.0), run=run)])

    assert results[1].verdict is overall_verdict(results) is Verdict.CANNOT_TELL
    assert statement(results).open == ("made_up: it moves with blur",)


def test_what_the_training_manifests_leave_open_leaves_the_audit_open_but_hides_no_shortcut(context: Make) -> None:
    one = TrainingImages(None, left_open=("class and hospital are one",))
    sound = run_probes(context(reads_lungs), [whole_images.PROBE, finding(1.0)])
    caught = run_probes(context(reads_lungs), [whole_images.PROBE, finding(0.0)])

    assert (overall_verdict(sound), overall_verdict(sound, one)) == (Verdict.NONE_FOUND, Verdict.CANNOT_TELL)
    assert overall_verdict(caught, one) is Verdict.FOUND
    assert statement(sound, one).open == ("Training: class and hospital are one",)


def test_held_out_images_of_the_training_hospitals_show_a_shortcut_that_the_audited_ones_lack(context: Make) -> None:
    training = TrainingImages(make_set(marked=True), make_set(marked=True, seed=3))
    made = replace(context(reads_corner, make_set()), training=training)

    results = {r.probe.name: r.verdict for r in run_probes(made, CONTROLLED)}

    assert results["hidden_lungs"] is Verdict.CANNOT_TELL
    assert results["hidden_lungs_training"] is Verdict.FOUND


def test_the_statement_says_what_was_and_what_was_not_examined(context: Make) -> None:
    results = run_probes(context(reads_lungs), [*CONTROLLED, relevance_share.PROBE])

    said = statement(results, TrainingImages(None, missing="no manifest is known"))

    assert said.found == said.open == ()
    assert said.examined == tuple(p.title for p in CONTROLLED[1:])
    assert said.not_examined[:2] == (
        "Relevance in the lungs: the model gives no heatmaps", "The training hospitals: no manifest is known",
    )  # fmt: skip
    assert (
        statement(run_probes(context(reads_corner, make_set(marked=True)), CONTROLLED))
        .found[0]
        .startswith(hidden_lungs.PROBE.title)
    )


def test_the_gate_lets_pass_what_the_audit_calls_none_found() -> None:
    assert Verdict.NONE_FOUND.value == AUDIT_PASSED


@pytest.mark.usefixtures("few_changes")
def test_no_probe_finds_a_shortcut_in_a_model_of_the_lungs(context: Make) -> None:
    functions = {
        "features": lambda images: images[:, 0, 18:30, 16:32].mean(2).double().numpy(),
        "heatmaps": maps_at(*LUNGS),
        "randomised": noise,
    }
    made = replace(context(reads_lungs, make_set(patients=24, lopsided=True), **functions), resamples=50)

    results = run_probes(made)

    assert {r.verdict for r in results} == {Verdict.CONTROL_PASSED, Verdict.NONE_FOUND, Verdict.HEATMAPS_SOUND}
