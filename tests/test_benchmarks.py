"""The script for a GPU machine: it is lent for minutes, so that what cannot run is to be found before."""

import json

import gpu
import pytest

UNCOMPILED = ("waits", "loading", "predicting")


def measured(parts, tmp_path, monkeypatch):
    file = tmp_path / "result.json"
    monkeypatch.setattr("sys.argv", ["gpu.py", "--device", "cpu", "--quick", "--json", str(file), "--parts", *parts])
    gpu.main()
    return json.loads(file.read_text())


def test_loading_and_predicting_are_measured_on_a_cpu(tmp_path, monkeypatch):
    found = measured(UNCOMPILED, tmp_path, monkeypatch)

    assert set(found) == {"card", "torch", "settings", *UNCOMPILED}
    assert not any("failed" in found[part] for part in UNCOMPILED)
    assert found["loading"]["decoded"]["images_per_s"] > 0
    assert set(found["predicting"]["images_per_s"]) == {"fp32", "bf16"}


def test_a_part_that_fails_says_why_and_the_others_go_on(tmp_path, monkeypatch):
    def broken(args):
        raise RuntimeError("no such card")

    broken.__name__ = "loading"
    monkeypatch.setattr(gpu, "PARTS", (broken, gpu.waits))

    found = measured(("loading", "waits"), tmp_path, monkeypatch)

    assert found["loading"] == {"failed": "RuntimeError: no such card"}
    assert "failed" not in found["waits"]


@pytest.mark.slow
def test_compiled_steps_have_the_gradients_of_eager_ones(tmp_path, monkeypatch):
    found = measured(("steps", "gradients"), tmp_path, monkeypatch)

    assert set(found["gradients"]) == set(gpu.STEPS)
    assert all(row["cosine"] == pytest.approx(1, abs=1e-5) for row in found["gradients"].values())
    assert len(found["steps"]["ratio"]) == 2 * len(gpu.STEPS)
