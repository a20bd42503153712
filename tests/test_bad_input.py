"""Bad input ends in exit status 2 and one message that names what is wrong and what to do; nothing is left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cxr_isnet.cli import main

SETTINGS = [
    "--data.classes=[normal, tuberculosis]",
    "--data.image.size=32",
    "--network.name=densenet_tiny",
    "--method=cross_entropy",
    "--epochs=1",
    "--batch_size=4",
    "--resamples=10",
    "--device=CPU",
    "--tracking.enabled=false",
]


@pytest.fixture
def hospital(phantom_manifest: Path, tmp_path: Path) -> Path:
    """A copy of the tiny phantom hospital that a test may spoil; its manifest."""
    shutil.copytree(phantom_manifest.parent, tmp_path / "hospital")
    return tmp_path / "hospital" / phantom_manifest.name


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs the command line, which must refuse; its message."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    message = capsys.readouterr().err
    assert caught.value.code == 2
    assert "Traceback" not in message
    return message


def train(capsys: pytest.CaptureFixture[str], manifest: Path, output: Path, *more: str) -> str:
    return refused(capsys, "train", f"--data.training=[{manifest}]", f"--output={output}", *SETTINGS, *more)


def drop_column(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    return table.drop(columns="label")


def unknown_label(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    table.loc[0, "label"] = "flu"
    return table


def missing_image(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    (folder / table.loc[0, "image"]).unlink()
    return table


def unreadable_image(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    (folder / table.loc[0, "image"]).write_text("<html>not found</html>")
    return table


def mask_of_another_size(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    Image.fromarray(np.full((7, 9), 255, dtype=np.uint8)).save(folder / table.loc[0, "mask"])
    return table


def empty_mask(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    path = folder / table.loc[0, "mask"]
    with Image.open(path) as mask:
        black = Image.new("L", mask.size)
    black.save(path)
    return table


def patient_in_two_splits(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    table["split"] = ["train", "val"] * (len(table) // 2)
    table["patient_id"] = "the same"
    return table


def class_absent(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    return table[table["label"] == "normal"]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (drop_column, ["manifest.csv", "label"]),
        (unknown_label, ["manifest.csv", "label", "flu"]),
        (missing_image, ["manifest.csv", "image"]),
        (unreadable_image, ["images"]),
        (mask_of_another_size, ["masks", "7"]),
        (empty_mask, ["masks", "column"]),
        (patient_in_two_splits, ["manifest.csv", "split", "the same"]),
        (class_absent, ["manifest.csv", "label", "tuberculosis"]),
    ],
)
def test_a_spoilt_manifest_is_refused_before_anything_is_written(
    spoil: Callable[[pd.DataFrame, Path], pd.DataFrame],
    named: list[str],
    hospital: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(pd.read_csv(hospital, dtype=str), hospital.parent).to_csv(hospital, index=False)

    message = train(capsys, hospital, tmp_path / "run")

    assert all(word in message for word in named), message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--method=resnet_of_tomorrow"], ["resnet_of_tomorrow", "isnet_dual"]),
        (["--network.name=vgg99"], ["vgg99", "densenet_small"]),
        (["--method=isnet", '--options={"isnet": {"heatmap": 1}}'], ["heatmap", "heatmap_weight"]),
        (["--method=isnet", '--options={"isnet": {"heatmap_weight": 1.5}}'], ["heatmap_weight", "1.5"]),
        (["--epochs=0"], ["epochs", "0"]),
        (["--no.such.setting=1"], ["no.such.setting"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_possible(
    arguments: list[str], named: list[str], hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = train(capsys, hospital, tmp_path / "run", *arguments)

    assert all(word in message for word in named), message
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named(hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cuda" in train(capsys, hospital, tmp_path / "run", "--device=CUDA")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    "words",
    [
        ["evaluate-model", "--model={best}", "--manifest=[{manifest}]"],
        ["audit", "{best}", "{manifest}"],
        ["explain", "--model={best}", "--images=[{image}]"],
    ],
    ids=lambda words: words[0],
)
def test_a_trained_model_is_not_used_on_a_gpu_that_is_not_there(
    words: list[str], hospital: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next(hospital.parent.rglob("*.dcm"))
    filled = [word.format(best=trained / "best.pt", manifest=hospital, image=image) for word in words]

    message = refused(capsys, *filled, f"--output={tmp_path / 'out'}", "--device=cuda")

    assert "torch sees no GPU: use device=cpu or device=auto" in message
    assert not (tmp_path / "out").exists()


def test_an_external_hospital_must_be_unseen(
    hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = train(capsys, hospital, tmp_path / "run", f"--data.external=[{hospital}]")

    assert "external" in message
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_left_as_it_is(hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")

    message = train(capsys, hospital, tmp_path / "run")

    assert "not empty" in message
    assert [f.name for f in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_an_unfinished_training_says_how_to_go_on(
    hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", f"--data.training=[{hospital}]", f"--output={tmp_path / 'run'}", *SETTINGS])
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been killed before the end
    capsys.readouterr()

    again = train(capsys, hospital, tmp_path / "run")
    otherwise = train(capsys, hospital, tmp_path / "run", "--resume=true", "--seed=9")
    other_network = train(capsys, hospital, tmp_path / "run", "--resume=true", "--network.name=densenet_small")

    assert "--resume" in again
    assert "seed" in otherwise
    assert "densenet_small" in other_network


@pytest.mark.parametrize(
    ("content", "named"),
    [(None, "no such"), (b"not a checkpoint", "best.pt"), ("foreign", "best.pt")],
)
def test_a_model_that_is_none_is_refused(
    content: bytes | str | None, named: str, hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "best.pt"
    if isinstance(content, bytes):
        model.write_bytes(content)
    elif content == "foreign":
        torch.save({"state_dict": {}}, model)

    message = refused(
        capsys, "evaluate", f"--model={model}", f"--manifest=[{hospital}]", f"--output={tmp_path / 'out'}"
    )
    explained = refused(capsys, "explain", f"--model={model}", "--images=[x.png]", f"--output={tmp_path / 'out'}")

    assert named in message
    assert str(model) in message
    assert str(model) in explained
    assert not (tmp_path / "out").exists()
