"""`cxr-isnet recipes`, and recipes by their names, outside a clone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cxr_isnet.cli import main
from cxr_isnet.shipped import locate, recipes


def test_recipes_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes"])

    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {"demo", "tb_shenzhen_montgomery", "planted_mark", "segmentation/shenzhen"} <= set(lines)
    assert all(len(line.split()) > 3 for line in lines.values())


def test_recipes_are_copied_and_nothing_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes", "--copy", str(tmp_path / "mine")])
    (tmp_path / "mine" / "demo.yaml").write_text("changed: true")

    with pytest.raises(SystemExit):
        main(["recipes", "--copy", str(tmp_path / "mine")])

    assert {
        path.relative_to(tmp_path / "mine").with_suffix("").as_posix() for path in (tmp_path / "mine").rglob("*.yaml")
    } == set(recipes())
    assert (tmp_path / "mine" / "demo.yaml").read_text() == "changed: true"
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tb_shenzhen_montgomery", "pipelines/tb_shenzhen_montgomery.yaml"])
def test_a_recipe_is_found_by_its_name_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as end:
        main(["train", "--config", name, "--print_config"])

    assert end.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["classes"] == ["normal", "tuberculosis"]


def test_a_file_of_ones_own_comes_before_a_recipe_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").write_text("")
    monkeypatch.chdir(tmp_path)

    assert locate("demo") == Path("demo")
    assert locate("planted_mark").is_file()
    assert locate("nothing") == Path("nothing")


def test_variables_in_a_path_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSPITALS", str(tmp_path))

    assert locate("${HOSPITALS}/a.csv") == tmp_path / "a.csv"
    assert locate("${NOT_SET:-data}/a.csv") == Path("data/a.csv")
