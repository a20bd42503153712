"""The server over real HTTP, as its own process: good requests right, bad ones refused with the reason, none fatal."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from cxr_isnet.data import ImageConfig
from cxr_isnet.inference import Classifier, FeatureReference
from cxr_isnet.networks import NetworkConfig, build_network

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def images(phantom_manifest: Path) -> list[Path]:
    return sorted((phantom_manifest.parent / "images").iterdir())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny")
    network = build_network(config, 2, 32).eval()
    features = network.class_layers.out.in_features
    reference = FeatureReference(torch.zeros(features), torch.eye(features), 1e-6)
    file = tmp_path_factory.mktemp("served") / "best.pt"
    Classifier(network, config, ("normal", "tuberculosis"), ImageConfig(32), "isnet", reference=reference).save(file)
    return file


class Server:
    """A server in a process of its own."""

    def __init__(self, checkpoint: Path, *options: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = int(taken.getsockname()[1])
        arguments = ["serve", str(checkpoint), "--port", str(self.port), "--device", "cpu", *options]
        start = f"from cxr_isnet.cli import main; main({arguments!r})"
        environment = os.environ | {"PYTHONPATH": str(PROJECT)}
        self.process = subprocess.Popen([sys.executable, "-c", start], env=environment)
        until = time.monotonic() + 120
        while True:
            try:
                if self.get("/ping")[0] == 200:
                    return
            except OSError:
                assert self.process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.2)

    def get(self, path: str) -> tuple[int, bytes]:
        return self.request("GET", path)

    def post(self, body: Any, content_type: str = "application/json") -> tuple[int, dict[str, Any]]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, answer = self.request("POST", "/invocations", content, {"Content-Type": content_type})
        return status, json.loads(answer)

    def request(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def memory(self) -> int:
        """Resident, in MB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024

    def peak(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Server]:
    found = Server(checkpoint, "--max_request_mb", "4", "--max_images", "8", "--max_pixels", "4000000")
    yield found
    found.process.terminate()
    found.process.wait(timeout=30)


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def png(rows: int, columns: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (rows, columns), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def huge_png(side: int) -> bytes:
    """A few hundred KB that decode to side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compressor = zlib.compressobj(9)
    row = b"\0" * (side + 1)
    data = b"".join(compressor.compress(row * 256) for _ in range(side // 256)) + compressor.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def changed(image: Path, change: Callable[[pydicom.Dataset], None]) -> bytes:
    dataset = pydicom.dcmread(image)
    change(dataset)
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def tags(**values: Any) -> Callable[[pydicom.Dataset], None]:
    def change(dataset: pydicom.Dataset) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return change


def deflated(dataset: pydicom.Dataset) -> None:
    """Some 100 KB that inflate to more than 100 MB."""
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.add_new(0x00431010, "OB", bytes(100_000_000))


def lying_codestream(dataset: pydicom.Dataset) -> None:
    """A JPEG 2000 frame of 60,000 x 60,000 pixels in a header that says 64 x 64."""
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    siz = struct.pack(">HHLLLLLLLLH", 41, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 1) + b"\x0b\x01\x01"
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + siz + bytes(64)])
    dataset["PixelData"].is_undefined_length = True


def bad_contents(image: Path) -> dict[str, bytes]:
    whole = image.read_bytes()
    return {
        "truncated DICOM": whole[: len(whole) // 2],
        "truncated PNG": png(64, 64)[:2000],
        "a hand": changed(image, tags(BodyPartExamined="HAND")),
        "CT": changed(image, tags(Modality="CT")),
        "huge header": changed(image, tags(Rows=60000, Columns=60000)),
        "huge PNG": huge_png(16384),
        "deflated bomb": changed(image, deflated),
        "lying codestream": changed(image, lying_codestream),
        "large picture": png(2100, 2100)[:3_000_000],
        "damaged header": whole[:132] + b"\xff" * 400 + whole[600:],
    }  # fmt: skip


def test_content_is_answered_as_the_classifier_does(server: Server, checkpoint: Path, images: list[Path]) -> None:
    expected = Classifier.load(checkpoint).predict(list(map(str, images[:4])))["probability_tuberculosis"]
    contents = [text(image.read_bytes()) for image in images[:4]]

    for body in (
        {"inputs": contents},
        {"instances": [{"path": content} for content in contents]},
        {"dataframe_split": {"columns": ["path"], "data": [[content] for content in contents]}},
        {"dataframe_records": [{"path": content} for content in contents]},
    ):
        status, answer = server.post(body)

        rows = answer["predictions"]
        assert status == 200
        assert [row["probability_tuberculosis"] for row in rows] == pytest.approx(list(expected), abs=1e-6)
        assert all(row["error"] == "" and row["path"].startswith("sha256:") for row in rows)
        assert "not a medical device" in answer["disclaimer"]
        assert "PHANTOM" not in json.dumps(answer)


def test_a_picture_and_a_heatmap_on_request(server: Server) -> None:
    status, answer = server.post({"inputs": [text(png(50, 40))], "params": {"heatmap": True}})

    (row,) = answer["predictions"]
    assert status == 200
    assert Image.open(io.BytesIO(base64.b64decode(row["heatmap"]))).size == (32, 32)
    assert "far from the training images" in row["warnings"]


def test_warnings_of_a_lateral_view_and_a_child(server: Server, images: list[Path]) -> None:
    lateral = changed(images[0], tags(ViewPosition="LL", PatientAge="003Y"))

    status, answer = server.post({"inputs": [text(lateral)]})

    assert status == 200
    assert "child of 3.0 years; not a frontal view (lateral)" in answer["predictions"][0]["warnings"]


def test_a_bad_image_is_a_4xx_with_its_reason_and_a_row_among_good_ones(server: Server, images: list[Path]) -> None:
    for name, content in bad_contents(images[0]).items():
        if len(content) * 4 / 3 > 4 * 1024 * 1024:
            assert server.post({"inputs": [text(content)]})[0] == 413, name
            continue
        status, answer = server.post({"inputs": [text(content)]})
        assert status == 422, (name, answer)
        assert len(answer["error"]) > 10, name

        status, answer = server.post({"inputs": [text(content), text(images[0].read_bytes())]})
        assert status == 200, name
        assert [bool(row["error"]) for row in answer["predictions"]] == [True, False], name
        assert answer["predictions"][0]["probability_normal"] is None
    assert server.process.poll() is None


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "no JSON"),
        (b"[" * 100_000, 400, "no JSON"),
        (b"\xff\xfe", 400, "no JSON"),
        ({"images": []}, 400, "one of the keys"),
        ({"inputs": [], "instances": []}, 400, "one of the keys"),
        ({"inputs": []}, 400, "0 images"),
        ({"inputs": 3}, 400, "list of base64"),
        ({"inputs": ["x"] * 9}, 400, "give 1 to 8"),
        ({"dataframe_split": {"data": 3}}, 400, "no table"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [["x", "y"]]}}, 400, "give a column 'path'"),
        ({"inputs": ["x"], "params": {"largest_pixels": 1}}, 400, "params must be"),
        ({"inputs": ["x"], "params": {"heatmap": "yes"}}, 400, "params must be"),
        ({"inputs": ["AAAA"]}, 422, "paths are refused"),
        ({"inputs": [None]}, 422, "neither the path nor the content"),
        ({"inputs": ["A" * 5000]}, 422, "neither a path nor base64"),
        (b" " * (4 * 1024 * 1024 + 1), 413, "larger than"),
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused(server: Server, body: Any, status: int, words: str) -> None:
    found, answer = server.post(body)

    assert found == status
    assert words in answer["error"]


def test_a_path_is_refused_unless_its_folder_is_allowed(
    server: Server, checkpoint: Path, images: list[Path], tmp_path: Path
) -> None:
    status, answer = server.post({"inputs": [str(images[0])]})
    assert (status, "paths are refused" in answer["error"]) == (422, True)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.dcm").symlink_to(images[0])
    (tmp_path / "in" / "own.dcm").write_bytes(images[0].read_bytes())
    (tmp_path / "outside.dcm").write_bytes(images[0].read_bytes())

    allowing = Server(checkpoint, "--allow_paths", str(tmp_path / "in"))
    try:
        given = ["own.dcm", "../outside.dcm", "link.dcm", "none.dcm"]
        status, answer = allowing.post({"inputs": [str(tmp_path / "in" / name) for name in given]})
    finally:
        allowing.process.terminate()
        allowing.process.wait(timeout=30)

    assert status == 200
    errors = [row["error"] for row in answer["predictions"]]
    assert errors[0] == ""
    assert errors[1] == errors[2] == "a path outside the folder that is allowed"
    assert "cannot be read" in errors[3]


def test_other_methods_and_types_and_the_ways_of_mlflow(server: Server) -> None:
    assert server.get("/health")[0] == server.get("/version")[0] == 200
    assert server.get("/invocations")[0] == 405
    assert server.get("/nowhere")[0] == 404
    assert server.post(b"path\nx", "text/csv")[0] == 415


def test_200_at_once_good_and_bad_are_each_answered_and_memory_returns(
    server: Server, checkpoint: Path, images: list[Path]
) -> None:
    expected = Classifier.load(checkpoint).predict(list(map(str, images)))["probability_tuberculosis"].to_numpy()
    good = [({"inputs": [text(image.read_bytes())]}, expected[i]) for i, image in enumerate(images)]
    bad: list[tuple[Any, None]] = [({"inputs": [text(c)]}, None) for c in bad_contents(images[0]).values()]
    bad += [(b"{", None), ({"inputs": ["/etc/passwd"]}, None), (b" " * 5_000_000, None), ({"inputs": ["AAAA"]}, None)]
    requests = [(good[i % len(good)] if i % 2 else bad[(i // 2) % len(bad)]) for i in range(200)]
    list(map(server.post, [body for body, _ in good + bad]))
    before = server.memory()

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda request: attempt(server, request[0]), requests))

    for (_, wanted), (status, answer) in zip(requests, answers, strict=True):
        if wanted is None:
            assert 400 <= status < 500
            assert status == 413 or answer["error"]
        else:
            assert status == 200
            assert answer["predictions"][0]["probability_tuberculosis"] == pytest.approx(wanted, abs=1e-6)
    assert server.process.poll() is None
    assert server.memory() < before + 100
    assert server.peak() < before + 300


def attempt(server: Server, body: Any) -> tuple[int, dict[str, Any]]:
    """An answer; a server that refuses a body unread closes the connection, which a client may see first."""
    try:
        return server.post(body)
    except (BrokenPipeError, ConnectionResetError):
        return 413, {}


def children(process: int) -> list[int]:
    """Process ids of a process's children."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def test_a_decoder_that_crashes_ends_neither_the_server_nor_its_next_request(
    server: Server, images: list[Path]
) -> None:
    body = {"inputs": [text(images[0].read_bytes())]}
    before = server.post(body)
    decoders = children(server.process.pid)

    for decoder in decoders:
        os.kill(decoder, signal.SIGKILL)

    assert [server.post(body) for _ in decoders] == [before] * len(decoders)
    assert len(decoders) == 2
    assert not set(children(server.process.pid)) & set(decoders)
