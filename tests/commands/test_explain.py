"""`cxr-isnet explain` on phantoms in DICOM and on pictures."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cxr_isnet.cli import main
from cxr_isnet.commands.explain import ExplainConfig, explain
from cxr_isnet.data import ImageConfig
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import read_manifest
from cxr_isnet.networks import NetworkConfig, build_network

CLASSES = ("normal", "tuberculosis")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny")
    network = build_network(config, 2, 32).eval()
    Classifier(network, config, CLASSES, ImageConfig(size=32), "cross_entropy").save(tmp_path / "best.pt")
    return tmp_path / "best.pt"


@pytest.fixture
def images(phantom_manifest: Path, tmp_path: Path) -> list[str]:
    """Two DICOM files under a patient's name, one of them broken, a picture, and a file that is missing."""
    first, second = read_manifest(phantom_manifest)["image"][:2]
    named, broken, picture = tmp_path / "DOE_JANE.dcm", tmp_path / "ROE_RICHARD.dcm", tmp_path / "<chest>.png"
    shutil.copy(first, named)
    broken.write_bytes(Path(second).read_bytes()[:600])
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))).save(picture)
    return [str(named), str(broken), str(picture), str(tmp_path / "POE_ANN.dcm")]


@pytest.fixture
def explained(model: Path, images: list[str], tmp_path: Path) -> tuple[Path, str]:
    output = tmp_path / "maps"
    return output, explain(ExplainConfig(str(model), images, str(output)))


def test_a_file_that_cannot_be_read_does_not_stop_the_others(explained: tuple[Path, str]) -> None:
    output, said = explained

    names = {"index.html", "images.csv", "0001.png", "0001.npz", "0003.png", "0003.npz"}
    assert {file.name for file in output.iterdir()} == names
    assert said.splitlines()[0] == str(output / "index.html")
    assert [line.split(":")[1] for line in said.splitlines()[1:]] == [" image 2", " image 4"]


def test_no_file_tells_the_name_of_a_dicom_file(explained: tuple[Path, str]) -> None:
    output, said = explained

    told = said.replace(str(output), "")
    for file in output.iterdir():
        content = file.read_bytes()
        assert not any(name in content for name in (b"DOE", b"ROE", b"POE", b"PHANTOM")), file.name
    assert not any(name in told for name in ("DOE", "ROE", "POE"))
    with (output / "images.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["number"] for row in rows] == ["0001", "0002", "0003", "0004"]
    assert [row["name"] for row in rows] == ["", "", "<chest>.png", ""]
    assert [bool(row["error"]) for row in rows] == [False, True, False, True]


def test_the_numbers_of_a_map_are_kept(explained: tuple[Path, str], model: Path, images: list[str]) -> None:
    output, _ = explained

    saved = np.load(output / "0001.npz")

    assert list(saved["classes"]) == list(CLASSES)
    np.testing.assert_allclose(saved["maps"], Classifier.load(model).explain(images[:1])[0].numpy(), atol=1e-6)
    assert saved["probabilities"].sum() == pytest.approx(1)
    every = np.concatenate([np.load(output / f"000{n}.npz")["maps"] for n in (1, 3)])
    assert float(saved["scale"]) == pytest.approx(np.percentile(np.abs(every), 99.5))


def test_the_page_is_whole_in_itself_and_escapes_names(explained: tuple[Path, str]) -> None:
    page = (explained[0] / "index.html").read_text(encoding="utf-8")

    assert not re.search(r"(src|href)=.(?!data:|#)", page)
    assert "&lt;chest&gt;.png" in page
    assert "<chest>" not in page
    saved = np.load(explained[0] / "0001.npz")
    assert f"+{float(saved['scale']):.3g}" in page


def test_the_decision_of_the_threshold_is_told_beside_the_most_probable_class(
    model: Path, images: list[str], tmp_path: Path
) -> None:
    classifier = Classifier.load(model)
    classifier.threshold = 0.0  # decides for the second class, whatever is more probable
    classifier.save(model)

    explain(ExplainConfig(str(model), images[:1], str(tmp_path / "maps")))

    with (tmp_path / "maps" / "images.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["decision"] == "tuberculosis"
    page = (tmp_path / "maps" / "index.html").read_text(encoding="utf-8")
    assert f"predicted {row['predicted']}, decision tuberculosis." in page
    assert "decision: tuberculosis from probability 0 on: shipped with the model" in page


def test_the_command_line(model: Path, images: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", f"--model={model}", f"--images={images[:1]}", f"--output={tmp_path / 'maps'}"])

    assert capsys.readouterr().out.split() == [str(tmp_path / "maps" / "index.html")]
    with Image.open(tmp_path / "maps" / "0001.png") as drawn:
        assert drawn.width > 200


def test_folders_and_patterns_name_images_too(model: Path, images: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "folder" / "below"
    folder.mkdir(parents=True)
    shutil.copy(images[2], folder / "b.png")
    shutil.copy(images[0], folder / "a.dcm")

    said = explain(ExplainConfig(str(model), [str(folder.parent), str(folder / "*.png")], str(tmp_path / "maps")))

    assert said == str(tmp_path / "maps" / "index.html")
    assert sorted(file.name for file in (tmp_path / "maps").glob("*.png")) == ["0001.png", "0002.png"]
    with pytest.raises(InputError, match=r"images: .*\*\.gif: no file"):
        explain(ExplainConfig(str(model), [str(folder / "*.gif")], str(tmp_path / "none")))


def test_nothing_is_written_where_no_image_can_be_read(model: Path, images: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no image can be explained: image 1: .*; image 2: "):
        explain(ExplainConfig(str(model), [images[1], images[3]], str(tmp_path / "maps")))
    assert not (tmp_path / "maps").exists()
    with pytest.raises(InputError, match="images is an empty list"):
        ExplainConfig("best.pt", [], "out")


MOVED = """<script>addEventListener('load', () => {
  const shown = () => [...document.querySelectorAll('.layer')].filter(e => getComputedStyle(e).display !== 'none');
  const set = (id, value) => {
    const control = document.getElementById(id);
    control.value = value;
    control.dispatchEvent(new Event('input'));
  };
  const found = { predicted: shown().map(e => e.dataset.class) };
  set('class', '1'); set('opacity', '40');
  found.second = shown().map(e => e.dataset.class);
  found.opacity = shown().map(e => getComputedStyle(e).opacity);
  found.broken = [...document.images].filter(i => !i.naturalWidth).length;
  const box = e => JSON.stringify(e.getBoundingClientRect());
  found.covers = shown().map(e => box(e) === box(e.parentElement.firstElementChild));
  document.body.innerHTML = '<pre id="found">' + JSON.stringify(found) + '</pre>';
});</script>"""


@pytest.mark.browser
def test_in_a_browser_class_and_opacity_are_chosen(explained: tuple[Path, str], tmp_path: Path) -> None:
    page = (explained[0] / "index.html").read_text(encoding="utf-8")
    moved = tmp_path / "moved.html"
    moved.write_text(page.replace("</body>", f"{MOVED}</body>"), encoding="utf-8")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "apt-get install chromium"

    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", moved.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    (text,) = re.findall(r'<pre id="found">(.*?)</pre>', shown, re.DOTALL)
    found = json.loads(text)
    predicted = [np.load(explained[0] / f"000{n}.npz")["probabilities"].argmax() for n in (1, 3)]
    assert found["predicted"] == [str(p) for p in predicted]
    assert found["second"] == ["1", "1"]
    assert found["opacity"] == ["0.4", "0.4"]
    assert found["broken"] == 0
    assert found["covers"] == [True, True]
