"""The recipes: each can be read, and each trains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_isnet.cli import main
from cxr_isnet.training.initialisation import read_experiment_config

PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"
RECIPES = sorted(p for p in PIPELINES.glob("*.yaml") if p.name != "demo.yaml")


@pytest.mark.parametrize("recipe", sorted(PIPELINES.glob("*.yaml")), ids=lambda p: p.name)
def test_every_setting_of_a_recipe_is_known(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "demo" if recipe.name == "demo.yaml" else "train"

    with pytest.raises(SystemExit) as caught:
        main([command, f"--config={recipe}", "--print_config"])

    assert caught.value.code == 0
    assert "classes:" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.name)
@pytest.mark.parametrize("method", [pytest.param("cross_entropy", marks=pytest.mark.slow), "isnet"])
def test_a_recipe_trains_an_epoch_on_phantoms(
    recipe: Path, method: str, phantom_manifest: Path, external_manifest: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    phantoms = [f"--data.training=[{phantom_manifest}]", f"--data.external=[{external_manifest}]"]
    phantoms.append("--data.classes=[normal, tuberculosis]")
    small = ["--data.image.size=32", "--epochs=1", "--batch_size=4", "--resamples=10", "--tracking.enabled=false"]
    small += ["--network.name=densenet_tiny", "--init_from=null"]

    main(["train", f"--config={recipe}", f"--method={method}", f"--output={output}", *phantoms, *small])

    metrics = json.loads((output / "metrics.json").read_text())
    tests = {"biased", "clean", "swapped"} if "planted" in recipe.name else {"clean"}
    assert set(metrics["external"]) == tests
    main(["train", f"--config={output / 'config.yaml'}", f"--output={tmp_path / 'again'}"])
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert again["external"] == metrics["external"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.name)
def test_what_a_recipe_starts_from_prepares_images_alike_and_no_larger(recipe: Path) -> None:
    config = read_experiment_config(recipe)
    if config.init_from is not None:
        before = read_experiment_config(PIPELINES.parent / config.init_from)
        assert before.data.image == replace(config.data.image, size=before.data.image.size)
        assert before.data.image.size <= config.data.image.size
        assert not set(before.data.training) & {*config.data.training, *config.data.external}


@pytest.mark.realdata
@pytest.mark.parametrize("method", ["cross_entropy", "isnet"])
def test_the_planted_mark_recipe_trains_on_real_x_rays(
    method: str, real_data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_ISNET_DATA", str(real_data_folder))
    monkeypatch.chdir(PIPELINES.parent)
    small = ["--data.image.size=64", "--epochs=1", "--resamples=10", "--tracking.enabled=false", "--init_from=null"]

    main(
        ["train", "--config=pipelines/planted_mark.yaml", f"--method={method}", f"--output={tmp_path / 'run'}", *small]
    )

    external = json.loads((tmp_path / "run" / "metrics.json").read_text())["external"]
    assert set(external) == {"biased", "clean", "swapped"}
    assert all(next(iter(sites.values()))["n_images"] == 98 for sites in external.values())
