"""Prediction of an archive in parts: killed anywhere, it ends with the table of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_isnet.cli import main
from cxr_isnet.deployment import DicomResults, archive_scoring, dicom_results
from cxr_isnet.deployment.archive_scoring import (
    Part,
    ScoringConfig,
    local_scorer,
    ray_scorer,
    score_archive,
)
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier, files_frame, predict_manifest
from tests.checkpoints import Killed
from tests.imaging.chest_files import chest_bytes

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of four rows, two batches each."""
    monkeypatch.setattr(archive_scoring, "PART_ROWS", 5)


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """Ten DICOM files, the fourth and the last broken."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(10):
        content = chest_bytes(number, SeriesInstanceUID="2.25.5")
        (folder / f"{number}.dcm").write_bytes(b"<html>" if number in (3, 9) else content)
    return files_frame([str(path) for path in sorted(folder.iterdir())])


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """An empty folder for parts."""
    folder = tmp_path / "parts"
    folder.mkdir()
    return folder


def score(classifier: Classifier, frame: pd.DataFrame, parts: Path, **options: object) -> pd.DataFrame:
    scorer = local_scorer(classifier, ScoringConfig("model", batch_size=2))
    return score_archive(frame, parts, scorer, {"model": "m"}, batch_size=2, **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("small_parts")
def test_the_table_is_that_of_predict_manifest(classifier: Classifier, frame: pd.DataFrame, parts: Path) -> None:
    table = score(classifier, frame, parts)

    expected = predict_manifest(classifier, frame, model_uri="model", batch_size=2)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert len(list(parts.glob("*.parquet"))) == 3


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("owner", "name"), [(pd.DataFrame, "to_parquet"), (archive_scoring, "_deliver")])
@pytest.mark.parametrize("before", [True, False])
def test_killed_twice_it_ends_with_the_same_table_and_a_set_of_results_for_every_row(
    owner: object, name: str, before: bool, classifier: Classifier, frame: pd.DataFrame, parts: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, kill_at: Callable[..., None],
) -> None:  # fmt: skip
    pytest.importorskip("highdicom", reason="pip install 'cxr-isnet[dicom-results]'")
    results, folder = DicomResults(classifier, "model"), tmp_path / "results"
    folder.mkdir()
    for call in (1, 2):
        with monkeypatch.context():
            kill_at(owner, name, call, before=before)
            with pytest.raises(Killed):
                score(classifier, frame, parts, results=results, results_folder=folder)
        monkeypatch.undo()
        monkeypatch.setattr(archive_scoring, "PART_ROWS", 5)

    table = score(classifier, frame, parts, results=results, results_folder=folder)

    expected = predict_manifest(classifier, frame, model_uri="model", batch_size=2)
    pd.testing.assert_frame_equal(table[expected.columns], expected, check_exact=True)
    named = [file for names in table["dicom_results"] for file in names.split("; ") if file]
    assert len(named) == 16
    assert sorted(named) == sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("small_parts")
def test_what_is_done_is_not_predicted_again(classifier: Classifier, frame: pd.DataFrame, parts: Path) -> None:
    seen: list[int] = []
    scorer = local_scorer(classifier, ScoringConfig(batch_size=2))

    def recording(parts: list[Part]) -> Iterator[Part]:
        for number, table in scorer(parts):
            if len(seen) == 2:
                raise Killed
            seen.append(number)
            yield number, table

    with pytest.raises(Killed):
        score_archive(frame, parts, recording, {}, batch_size=2)
    rest: list[list[int]] = []

    def noting(parts: list[Part]) -> Iterator[Part]:
        rest.append([number for number, _ in parts])
        return scorer(parts)

    table = score_archive(frame, parts, noting, {}, batch_size=2)

    assert seen == [0, 1]
    assert rest == [[2]]
    assert list(table["path"]) == list(frame["image"])


@pytest.mark.usefixtures("small_parts")
def test_parts_that_come_in_another_order_make_the_same_table(
    classifier: Classifier, frame: pd.DataFrame, parts: Path
) -> None:
    scorer = local_scorer(classifier, ScoringConfig("model", batch_size=2))

    table = score_archive(frame, parts, lambda parts: reversed(list(scorer(parts))), {}, batch_size=2)

    pd.testing.assert_frame_equal(table, predict_manifest(classifier, frame, model_uri="model", batch_size=2))


@pytest.mark.parametrize("change", ["model", "rows", "batch"])
def test_parts_of_something_else_are_refused(
    change: str, classifier: Classifier, frame: pd.DataFrame, parts: Path
) -> None:
    scorer = local_scorer(classifier, ScoringConfig())
    score_archive(frame, parts, scorer, {"model": "m"})

    with pytest.raises(InputError, match="interrupted prediction of another"):
        score_archive(
            frame.iloc[1:] if change == "rows" else frame,
            parts,
            scorer,
            {"model": "other" if change == "model" else "m"},
            batch_size=8 if change == "batch" else 16,
        )


def test_a_pattern_names_files_in_any_folder(trained: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "archive" / "below").mkdir()
    os.replace(tmp_path / "archive" / "1.dcm", tmp_path / "archive" / "below" / "1.dcm")

    main(["predict", str(trained / "best.pt"), f"{tmp_path}/archive/**/[12].dcm", "-o", str(tmp_path / "p.csv")])

    assert [Path(path).name for path in pd.read_csv(tmp_path / "p.csv")["path"]] == ["2.dcm", "1.dcm"]


def test_throughput_is_said(
    trained: Path, frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["predict", str(trained / "best.pt"), *frame["image"][:2], "-o", str(tmp_path / "p.csv")])

    said = capsys.readouterr().err
    assert "2 images in " in said
    assert "images a second" in said


@pytest.mark.slow
def test_5000_files_scored_while_the_process_is_killed_twice(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(5000):
        pixels = generator.integers(0, 4095, (40, 40)).astype(np.uint16)
        content = chest_bytes(number, pixels=pixels)
        (folder / f"{number:04}.dcm").write_bytes(content[:200] if number % 100 == 7 else content)
    model, first, second = str(trained / "best.pt"), tmp_path / "first.parquet", tmp_path / "second.parquet"
    command = [sys.executable, "-m", "cxr_isnet", "predict", model, str(folder), "--workers", "1", "-o"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    for done in (2, 8):
        process = subprocess.Popen([*command, str(first)], env=environment, stderr=subprocess.DEVNULL)
        while len(list(first.with_name(".first.parquet.parts").glob("[0-9]*.parquet"))) < done:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not first.exists()

    for output in (first, second):
        assert subprocess.run([*command, str(output)], env=environment).returncode == 1

    table = pd.read_parquet(first)
    assert list(table["path"]) == [str(path) for path in sorted(folder.iterdir())]
    assert int((table["error"] != "").sum()) == 50
    pd.testing.assert_frame_equal(table, pd.read_parquet(second), check_exact=True)
    assert not first.with_name(".first.parquet.parts").exists()


@pytest.mark.services
@pytest.mark.usefixtures("small_parts")
def test_a_ray_cluster_makes_the_same_table(classifier: Classifier, frame: pd.DataFrame, parts: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'cxr-isnet[ray]'")
    scorer = ray_scorer(classifier, ScoringConfig("model", batch_size=2), "local")

    table = score_archive(frame, parts, scorer, {}, batch_size=2)

    expected = predict_manifest(classifier, frame, model_uri="model", batch_size=2)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


def test_failed_results_are_said_in_the_table(classifier: Classifier, frame: pd.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="pip install 'cxr-isnet[dicom-results]'")
    (tmp_path / "results").mkdir()
    table = predict_manifest(classifier, frame)
    Path(frame["image"][0]).write_bytes(chest_bytes(0, StudyInstanceUID=None))

    added = dicom_results.add_dicom_results(table, DicomResults(classifier, "m"), tmp_path / "results")

    assert "StudyInstanceUID" in added["dicom_results_error"][0]
    assert [bool(names) for names in added["dicom_results"]] == [number not in (0, 3, 9) for number in range(10)]
    assert list(table.columns) == list(added.columns[:-2])
