"""The listener as an archive meets it: associations on loopback, kills, TLS, garbage, results that come back."""

from __future__ import annotations

import logging
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import NameOID
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from cxr_isnet.deployment import DicomResults, Listener, ListenerConfig, Node, Spool, listener
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from tests.imaging.chest_files import SECRET, chest_dataset

pytest.importorskip("highdicom", reason="pip install 'cxr-isnet[dicom-results]'")
pynetdicom = pytest.importorskip("pynetdicom", reason="pip install 'cxr-isnet[dicom-results]'")

PROJECT = Path(__file__).resolve().parents[2]
CR = pynetdicom.sop_class.ComputedRadiographyImageStorage
CONFIG = ListenerConfig("CXR", "127.0.0.1", 0, ("PACS",))


def chest(number: int = 0, **elements: Any) -> pydicom.Dataset:
    return chest_dataset(number, SeriesInstanceUID=f"2.25.{3000 + number}", **elements)


def eventually(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `what` returns once it is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Archive:
    """A node that keeps what it is sent, and answers with `status`."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.status = 0x0000
        self.received: list[pydicom.Dataset] = []
        self.tries = 0
        entity = pynetdicom.AE("PACS")
        entity.supported_contexts = pynetdicom.StoragePresentationContexts[:]
        for context in pynetdicom.AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax)
        handlers = [(pynetdicom.evt.EVT_C_STORE, self._store)]
        self.server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls)
        self.node = Node("PACS", "127.0.0.1", self.server.server_address[1])

    def _store(self, event: Any) -> int:
        self.tries += 1
        if self.status == 0:
            self.received.append(event.dataset)
        return self.status

    def modalities(self) -> list[str]:
        return sorted(dataset.Modality for dataset in self.received)


@pytest.fixture
def archive() -> Iterator[Archive]:
    made = Archive()
    yield made
    made.server.shutdown()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def start(classifier: Classifier, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Listener]]:
    """Starts listeners, and stops them in the end."""
    monkeypatch.setattr(listener, "FIRST_RETRY_S", 0.05)
    started: list[Listener] = []

    def begin(config: ListenerConfig = CONFIG, results: DicomResults | None = None) -> Listener:
        made = Listener(config, spool, results or DicomResults(classifier, "model"))
        made.start()
        started.append(made)
        return made

    yield begin
    for made in started:
        made.stop()


def associate(port: int, caller: str = "PACS", called: str = "CXR", sop_class: str = CR, **options: Any) -> Any:
    entity = pynetdicom.AE(caller)
    entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
    entity.add_requested_context(pynetdicom.sop_class.Verification)
    return entity.associate("127.0.0.1", port, ae_title=called, **options)


def send(port: int, *datasets: pydicom.Dataset, **options: Any) -> list[int | None]:
    association = associate(port, **options)
    assert association.is_established
    statuses = [association.send_c_store(dataset).get("Status") for dataset in datasets]
    association.release()
    return statuses


def test_what_is_sent_is_scored_and_the_results_come_back(
    archive: Archive, start: Callable[..., Listener], spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        port = start(replace(CONFIG, return_to=archive.node)).port

        statuses = send(port, chest(0), chest(1))

        eventually(lambda: len(archive.received) == 4)
    assert statuses == [0, 0]
    assert archive.modalities() == ["OT", "OT", "SR", "SR"]
    assert {dataset.StudyInstanceUID for dataset in archive.received} == {"2.25.2000", "2.25.2001"}
    eventually(lambda: not spool.outgoing())
    assert names(spool.folder("incoming")) == names(spool.folder("attempts")) == names(spool.folder("quarantine")) == []
    assert SECRET not in caplog.text


def test_it_answers_an_echo(start: Callable[..., Listener]) -> None:
    association = associate(start().port)

    assert association.send_c_echo().Status == 0
    association.release()


@pytest.mark.parametrize(("caller", "called"), [("STRANGER", "CXR"), ("PACS", "OTHER")])
def test_unknown_titles_are_refused(caller: str, called: str, start: Callable[..., Listener]) -> None:
    assert associate(start().port, caller, called).is_rejected


def test_other_kinds_of_objects_are_refused(start: Callable[..., Listener]) -> None:
    association = associate(start().port, sop_class=CTImageStorage)

    assert CTImageStorage in [context.abstract_syntax for context in association.rejected_contexts]
    association.release()


def test_results_stay_where_there_is_nowhere_to_send_them(start: Callable[..., Listener], spool: Spool) -> None:
    send(start().port, chest())

    (folder,) = eventually(spool.outgoing)
    assert sorted(name.partition("-")[0] for name in names(folder)) == ["heatmap", "report"]


def test_what_is_sent_again_is_not_scored_again(archive: Archive, start: Callable[..., Listener], spool: Spool) -> None:
    port = start(replace(CONFIG, return_to=archive.node)).port
    send(port, chest())
    eventually(lambda: len(archive.received) == 2 and not names(spool.folder("incoming")))

    assert send(port, chest()) == [0]

    send(port, chest(1))
    eventually(lambda: len(archive.received) == 4)
    assert len({dataset.StudyInstanceUID for dataset in archive.received[2:]}) == 1


def test_a_bad_object_is_quarantined_with_its_reason_and_stops_no_other(
    archive: Archive, start: Callable[..., Listener], spool: Spool
) -> None:
    port = start(replace(CONFIG, return_to=archive.node)).port
    truncated = chest(1)
    truncated.PixelData = truncated.PixelData[:100]

    statuses = send(port, truncated, chest(2, PresentationIntentType="FOR PROCESSING"), chest(0))

    assert statuses == [0, 0, 0]  # on the disk, whole as it was sent
    eventually(lambda: len(archive.received) == 2)
    assert {dataset.StudyInstanceUID for dataset in archive.received} == {"2.25.2000"}
    reasons = [path.read_text() for path in spool.folder("quarantine").glob("*.txt")]
    assert len(reasons) == 2
    assert any("PROCESSING" in reason for reason in reasons)
    assert not any(SECRET in reason for reason in reasons)


def test_an_object_that_is_none_is_answered_with_a_failure(
    start: Callable[..., Listener], spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = start().port
    monkeypatch.setattr(pynetdicom.association, "encode", lambda *_: b"\xff\xfe\x00garbage" * 20)

    assert send(port, chest()) == [0xA900]

    assert len(names(spool.folder("quarantine"))) == 2
    assert names(spool.folder("incoming")) == []


def test_an_object_that_is_not_the_one_announced_is_answered_with_a_failure(
    start: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = start().port
    other = pynetdicom.dsutils.encode(chest(7), False, True)
    monkeypatch.setattr(pynetdicom.association, "encode", lambda *_: other)

    assert send(port, chest()) == [0xA900]


def test_a_large_object_is_answered_with_a_failure_and_a_huge_one_aborted(
    start: Callable[..., Listener], spool: Spool
) -> None:
    port = start(replace(CONFIG, most_bytes=5000)).port  # an object of this hospital has 8,900

    assert send(port, chest()) == [0xA700]
    assert send(port, chest(PixelData=b"\0" * 200_000)) == [None]

    assert names(spool.folder("incoming")) == []
    association = associate(port)
    assert association.send_c_echo().Status == 0
    association.release()


def test_a_picture_of_too_many_pixels_is_answered_with_a_failure(
    start: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LARGEST_PIXELS", 4000)

    assert send(start().port, chest()) == [0xA700]


def test_a_full_disk_is_answered_with_a_failure(
    start: Callable[..., Listener], spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    port = start().port
    monkeypatch.setattr(os, "fsync", full)

    assert send(port, chest()) == [0xA700]

    monkeypatch.undo()
    assert spool.incoming() == []


def test_what_the_archive_does_not_take_is_sent_again(archive: Archive, start: Callable[..., Listener]) -> None:
    archive.status = 0xA700
    port = start(replace(CONFIG, return_to=archive.node)).port
    send(port, chest())
    eventually(lambda: archive.tries >= 4)
    assert archive.received == []

    archive.status = 0x0000

    eventually(lambda: archive.modalities() == ["OT", "SR"])


def test_an_archive_that_is_away_gets_the_results_when_it_is_back(start: Callable[..., Listener], spool: Spool) -> None:
    away = Archive()
    away.server.shutdown()
    send(start(replace(CONFIG, return_to=away.node)).port, chest())
    eventually(spool.outgoing)

    back = Archive(away.node.port)

    eventually(lambda: back.modalities() == ["OT", "SR"])
    back.server.shutdown()


def test_an_object_that_ends_the_process_again_and_again_is_quarantined(
    start: Callable[..., Listener], spool: Spool
) -> None:
    content = spool.write(b"x", "d" * 64)
    spool.accept(content, "d" * 64)
    assert [spool.begin("d" * 64) for _ in range(3)] == [1, 2, 3]

    start()

    eventually(lambda: names(spool.folder("quarantine")) == [f"{'d' * 64}.dcm", f"{'d' * 64}.txt"])
    assert "ended the process 3 times" in (spool.folder("quarantine") / f"{'d' * 64}.txt").read_text()


def test_a_defect_takes_the_object_away_and_not_the_service(
    archive: Archive, start: Callable[..., Listener], spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = DicomResults.write, []

    def fail_once(self: DicomResults, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError(SECRET)
        return write(self, *arguments)

    monkeypatch.setattr(DicomResults, "write", fail_once)

    send(start(replace(CONFIG, return_to=archive.node)).port, chest(0), chest(1))

    eventually(lambda: len(archive.received) == 2)
    (reason,) = [path.read_text() for path in spool.folder("quarantine").glob("*.txt")]
    assert "ZeroDivisionError" in reason
    assert SECRET not in reason


@pytest.mark.parametrize("step", ["begin", "finish", "close"])
def test_a_kill_at_any_step_loses_nothing_and_scores_nothing_twice(
    step: str, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    spool = Spool(tmp_path / "spool")
    made = Listener(CONFIG, spool, DicomResults(classifier, "model"))
    path = tmp_path / "chest.dcm"
    chest().save_as(path, enforce_file_format=True)
    spool.accept(spool.write(path.read_bytes(), "a"), "a")
    with monkeypatch.context() as patch:
        patch.setattr(Spool, step, die)
        with pytest.raises(Killed):
            made._score_one(spool.incoming()[0])

    again = Spool(tmp_path / "spool")
    for waiting in again.incoming():
        Listener(CONFIG, again, DicomResults(classifier, "model"))._score_one(waiting)

    (folder,) = again.outgoing()
    assert len(names(folder)) == 2
    assert names(again.folder("scoring")) == names(again.folder("incoming")) == []


@pytest.mark.slow
def test_a_killed_process_takes_up_what_it_acknowledged(archive: Archive, trained: Path, tmp_path: Path) -> None:
    """kill -9 between storing and scoring, which waits for a file in the first process and does not in the second."""
    code = f"""
import sys, time
from cxr_isnet.cli import main
from cxr_isnet.deployment import listener
if sys.argv[1] == "wait":
    listener.predict_sources = lambda *_: time.sleep(1000)
main(["listen", "--ae-title", "CXR", "--port", "0", "--model", {str(trained / "best.pt")!r}, "--callers", "PACS",
      "--spool", {str(tmp_path / "spool")!r}, "--return-to", "PACS@127.0.0.1:{archive.node.port}"])
"""

    def run(mode: str) -> tuple[subprocess.Popen[str], int]:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        process = subprocess.Popen(
            [sys.executable, "-c", code, mode], stderr=subprocess.PIPE, text=True, env=environment
        )
        assert process.stderr is not None
        line = next(line for line in process.stderr if "listens on" in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        return process, int(line.rsplit(" ", 1)[1])

    process, port = run("wait")
    assert send(port, chest(0), chest(1)) == [0, 0]
    process.send_signal(signal.SIGKILL)
    process.wait()

    process, _ = run("work")
    eventually(lambda: len(archive.received) == 4, 60)
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 0
    assert {dataset.StudyInstanceUID for dataset in archive.received} == {"2.25.2000", "2.25.2001"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate of 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    day, today = timedelta(days=1), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, today - day, today + day)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return str(certificate), str(secret)


def test_with_tls_strangers_and_plain_text_are_refused(
    certificate: tuple[str, str], start: Callable[..., Listener], spool: Spool
) -> None:
    from cxr_isnet.commands.listen import ListenConfig, _context

    settings = ListenConfig(
        "CXR", 0, "", "", ["PACS"], tls_certificate=certificate[0], tls_key=certificate[1], tls_ca=certificate[0]
    )
    server, client = _context(settings, ssl.Purpose.CLIENT_AUTH), _context(settings, ssl.Purpose.SERVER_AUTH)
    stranger = ssl.create_default_context(cafile=certificate[0])
    archive = Archive(tls=server)
    port = start(replace(CONFIG, tls=server, return_to=archive.node, return_tls=client)).port

    assert not associate(port).is_established
    assert not associate(port, tls_args=(stranger, "127.0.0.1")).is_established
    assert send(port, chest(), tls_args=(client, "127.0.0.1")) == [0]

    eventually(lambda: archive.modalities() == ["OT", "SR"])
    archive.server.shutdown()


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "PACS@host:x", "@host:1", "PACS@host:70000", "A" * 17 + "@h:1"])
def test_what_is_no_node_is_said(text: str) -> None:
    with pytest.raises(InputError, match="return_to"):
        Node.parse(text)


def test_a_port_that_is_taken_is_said(archive: Archive, start: Callable[..., Listener]) -> None:
    with pytest.raises(InputError, match=f"port is {archive.node.port}"):
        start(replace(CONFIG, port=archive.node.port))


def test_the_spool_is_its_owners_alone(spool: Spool, tmp_path: Path) -> None:
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
