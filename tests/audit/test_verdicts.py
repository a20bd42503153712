"""Verdicts: false alarms of many probes, heatmaps that failed their check, models that lack a capability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cxr_isnet.audit import AuditContext, Verdict, overall_verdict, run_probes
from cxr_isnet.audit.probe import Capability, Probe
from cxr_isnet.audit.probes import PROBES, background_swap, hidden_lungs, relevance_share, weight_randomisation
from cxr_isnet.audit.statistics import ProbeResult
from tests.audit.conftest import LUNGS, make_set, maps_at, noise, reads_corner, reads_lungs

Make = Callable[..., AuditContext]


def finding(p_value: float | None, name: str = "made_up", needs: tuple[Capability, ...] = ()) -> Probe:
    return Probe(name, name, "?", "", "", needs, lambda _: ProbeResult((), p_value, "nothing to see"))


def test_names_differ_and_every_probe_states_its_rule() -> None:
    assert len({p.name for p in PROBES}) == len(PROBES) == 7
    assert all(p.rule and p.limits and p.question.endswith("?") for p in PROBES)


def test_p_values_are_corrected_for_their_number(context: Make) -> None:
    results = run_probes(context(reads_lungs), [finding(0.02), finding(0.03), finding(0.001)])

    assert [r.adjusted_p for r in results] == pytest.approx([0.04, 0.04, 0.003])
    assert {r.verdict for r in results} == {Verdict.SIGN}
    alone = run_probes(context(reads_lungs), [finding(0.02), finding(0.3), finding(0.4)])
    assert [r.verdict for r in alone] == [Verdict.NO_SIGN] * 3


def test_a_probe_without_a_p_value_is_not_applicable_and_costs_the_others_nothing(context: Make) -> None:
    results = run_probes(context(reads_lungs), [finding(None), finding(0.04)])

    assert [r.verdict for r in results] == [Verdict.NOT_APPLICABLE, Verdict.SIGN]
    assert results[0].reason == "nothing to see"


def test_what_a_model_lacks_is_reported(context: Make) -> None:
    (result,) = run_probes(context(reads_lungs), [relevance_share.PROBE])

    assert (result.verdict, result.reason) == (Verdict.NOT_APPLICABLE, "the model gives no heatmaps")
    assert overall_verdict([result]) is Verdict.NOT_APPLICABLE


def test_heatmaps_that_failed_their_check_carry_no_verdict(context: Make) -> None:
    same = maps_at(slice(0, 48), slice(0, 48))
    made = context(reads_lungs, heatmaps=same, randomised=lambda share, seed: same)

    check, share = run_probes(made, [weight_randomisation.PROBE, relevance_share.PROBE])

    assert check.verdict is Verdict.UNSOUND
    assert share.verdict is Verdict.NOT_APPLICABLE
    assert "random weights" in share.reason
    assert share.result.statistics


def test_a_model_of_the_corner_is_caught_and_a_model_of_the_lungs_is_not(context: Make) -> None:
    chosen = [hidden_lungs.PROBE, background_swap.PROBE]
    data = make_set(marked=True)

    assert overall_verdict(run_probes(context(reads_corner, data), chosen)) is Verdict.SIGN
    assert overall_verdict(run_probes(context(reads_lungs, data), chosen)) is Verdict.NO_SIGN


@pytest.mark.usefixtures("few_marks")
def test_no_probe_gives_a_sign_on_a_model_of_the_lungs(context: Make) -> None:
    functions = {
        "features": lambda images: images[:, 0, 18:30, 16:32].mean(2).double().numpy(),
        "heatmaps": maps_at(*LUNGS),
        "randomised": noise,
    }
    made = replace(context(reads_lungs, make_set(patients=24, lopsided=True), **functions), resamples=50)

    results = run_probes(made)

    assert [r.verdict for r in results] == [Verdict.NO_SIGN] * 7
