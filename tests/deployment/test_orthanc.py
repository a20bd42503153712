"""The whole way with real parts: phantoms into Orthanc, to the listener with a model of a registry on PostgreSQL, and
results back into Orthanc, read by DICOMweb."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pydicom
import pytest
import torch

from cxr_isnet.deployment import log_classifier
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import SegmenterConfig, build_segmenter
from cxr_isnet.segmentation import Segmenter
from cxr_isnet.tracking import TrackingConfig, open_store, start_run
from tests.deployment.test_elsewhere import free_port

pytestmark = pytest.mark.services

PROJECT = Path(__file__).resolve().parents[2]
ORTHANC = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")


def ask(url: str, content: bytes | None = None, accept: str = "application/json") -> Any:
    with urlopen(Request(url, content, {"Accept": accept}), timeout=30) as answer:
        body = answer.read()
        if accept == "application/json":
            return json.loads(body)
        message = email.message_from_bytes(b"Content-Type: " + answer.headers["Content-Type"].encode() + b"\n\n" + body)
        return [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]


def wait_for(what: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            if found := what():
                return found
        except (URLError, ConnectionError):
            pass
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)


@pytest.fixture
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("http", "dicom", "listener")}


@pytest.fixture
def orthanc(ports: dict[str, int], tmp_path: Path) -> Iterator[str]:
    """URL of an Orthanc with DICOMweb that knows the listener."""
    settings = {
        "StorageDirectory": str(tmp_path / "storage"),
        "IndexDirectory": str(tmp_path / "storage"),
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "DicomAet": "PACS",
        "DicomPort": ports["dicom"],
        "HttpPort": ports["http"],
        "HttpBindAddresses": ["127.0.0.1"],
        "DicomModalities": {"cxr": ["CXR", "127.0.0.1", ports["listener"]]},
        "DicomWeb": {"Enable": True},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    log = (tmp_path / "orthanc.log").open("w")
    process = subprocess.Popen([str(ORTHANC), str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{ports['http']}"
    wait_for(lambda: ask(f"{url}/system"))
    yield url
    process.terminate()
    process.wait(30)


@pytest.fixture
def listening(
    ports: dict[str, int], trained: Path, phantom_manifest: Path, registry: str, tmp_path: Path
) -> Iterator[Path]:
    """`cxr-isnet listen` with the registry's champion and a segmenter to which everything is lung; its log."""
    classifier = Classifier.load(trained / "best.pt")
    examples = [str(path) for path in sorted((phantom_manifest.parent / "images").iterdir())[:2]]
    with start_run(TrackingConfig(registry), kind="test", name="a run", parameters={}) as run:
        log_classifier(run, classifier, examples, register="tb", metadata={"method": classifier.method})
    open_store(registry).set_registered_model_alias("tb", "champion", "1")
    config = SegmenterConfig(channels=(4, 8))
    network = build_segmenter(config)
    with torch.no_grad():
        list(network.parameters())[-1].fill_(20.0)
    Segmenter(network, config, classifier.image).save(tmp_path / "lungs.pt")
    words = ["--ae-title", "CXR", "--port", str(ports["listener"]), "--callers", "PACS",
             "--model", "models:/tb@champion", "--tracking.uri", registry,
             "--spool", str(tmp_path / "spool"), "--segmenter", str(tmp_path / "lungs.pt"),
             "--return-to", f"PACS@127.0.0.1:{ports['dicom']}"]  # fmt: skip
    log = tmp_path / "listen.log"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with log.open("w") as stream:
        command = [sys.executable, "-m", "cxr_isnet", "listen", *words]
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    wait_for(lambda: "listens on" in log.read_text())
    yield log
    process.terminate()
    assert process.wait(60) == 0


def test_phantoms_come_back_with_report_heatmap_and_lungs(
    orthanc: str, listening: Path, trained: Path, phantom_manifest: Path
) -> None:
    images = sorted((phantom_manifest.parent / "images").iterdir())[:2]
    studies = [ask(f"{orthanc}/instances", image.read_bytes())["ParentStudy"] for image in images]

    ask(f"{orthanc}/modalities/cxr/store", json.dumps(studies).encode())

    expected = Classifier.load(trained / "best.pt").predict(list(map(str, images)))
    for row, image in enumerate(images):
        source = pydicom.dcmread(image)
        study = f"{orthanc}/dicom-web/studies/{source.StudyInstanceUID}"
        found = wait_for(lambda url=study: len(answer := ask(f"{url}/metadata")) == 4 and answer)
        objects = {dataset.Modality: dataset for dataset in map(pydicom.Dataset.from_json, found)}
        assert sorted(objects) == ["CR", "OT", "SEG", "SR"]
        assert {str(dataset.PatientID) for dataset in objects.values()} == {source.PatientID}
        numbers = measured(objects["SR"])
        assert numbers["Probability of tuberculosis"] == pytest.approx(
            expected["probability_tuberculosis"][row], abs=1e-5
        )
        for modality, shape in (("SEG", (64, 64)), ("OT", (84, 64, 3))):
            series = objects[modality].SeriesInstanceUID
            (part,) = ask(f"{study}/series/{series}", accept='multipart/related; type="application/dicom"')
            whole = pydicom.dcmread(pydicom.filebase.DicomBytesIO(part))
            assert whole.pixel_array.squeeze().shape == shape
    assert "PHANTOM" not in listening.read_text()


def measured(report: pydicom.Dataset) -> dict[str, float]:
    """Numbers of a report by the meaning of their names."""
    found = {}
    for item in report.get("ContentSequence", []):
        if item.ValueType == "NUM":
            found[item.ConceptNameCodeSequence[0].CodeMeaning] = float(item.MeasuredValueSequence[0].NumericValue)
        found.update(measured(item))
    return found
