"""Registration against `mlflow server` with PostgreSQL and proxied artifacts, all started here on loopback."""

from __future__ import annotations

import pytest

from cxr_isnet.tracking import open_store
from tests.deployment.made_runs import GATE, champion, make_run
from tests.deployment.test_registration import check_two_at_once

pytestmark = pytest.mark.services


def test_the_gate_works_by_proxied_artifacts(registry: str) -> None:
    from cxr_isnet.deployment import register, rollback

    client = open_store(registry)

    assert register(client, make_run(registry, 1.5), "lungs", GATE).promoted
    assert register(client, make_run(registry, 3.0), "lungs", GATE).promoted
    assert not register(client, make_run(registry, 0.5), "lungs", GATE).promoted

    assert champion(client, "lungs") == "2"
    assert client.get_model_version("lungs", "3").tags["gate.passed"] == "false"
    assert rollback(client, "lungs") == (2, 1)


def test_two_registrations_at_once_leave_the_best_as_champion_on_postgresql(registry: str) -> None:
    check_two_at_once(registry, "together")
