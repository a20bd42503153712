"""A DICOM node that scores what an archive sends it (C-STORE), and sends the results back.

An object is acknowledged when it lies on the disk, in the spool.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr_isnet.config import require_extra
from cxr_isnet.deployment.dicom_results import DicomResults
from cxr_isnet.deployment.spool import Spool
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import ERROR_COLUMN, probability_columns
from cxr_isnet.imaging import LARGEST_PIXELS, open_header
from cxr_isnet.inference import predict_sources

logger = logging.getLogger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
"""Statuses of a C-STORE response (PS3.4, B.2.3)."""

MOST_ATTEMPTS = 3
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0


@dataclass(frozen=True)
class Node:
    """Where results are sent.

    Attributes:
        ae_title: Of the node.
        host: Name or address.
        port: TCP port.
    """

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Node:
        """The node of `AE@host:port`; raises `InputError` for anything else."""
        title, at, address = text.partition("@")
        host, colon, port = address.rpartition(":")
        if not (at and colon and host and port.isdigit() and 0 < int(port) < 65536):
            raise InputError(f"return_to is '{text}': give AE@host:port, e.g. ORTHANC@127.0.0.1:4242")
        return cls(check_ae_title("return_to", title), host, int(port))


def check_ae_title(setting: str, title: str) -> str:
    """The AE title, if it is one: 1 to 16 printable ASCII characters without a backslash (PS3.5, 6.2)."""
    if not (title.strip() and len(title) <= 16 and title.isascii() and title.isprintable()) or "\\" in title:
        raise InputError(f"{setting} is '{title}': an AE title has 1 to 16 ASCII characters and no backslash")
    return title


@dataclass(frozen=True)
class ListenerConfig:
    """How a listener is reached, and what it takes.

    Attributes:
        ae_title: Its own title, which callers must use.
        host: Address that it listens on.
        port: TCP port; 0 takes a free one.
        callers: Titles of the nodes that it accepts.
        return_to: Where results are sent; None leaves them in `outgoing`.
        most_bytes: Of one object.
        tls: Context of the server's side; None for no TLS.
        return_tls: Context of the client's side; None for no TLS.
    """

    ae_title: str
    host: str
    port: int
    callers: tuple[str, ...]
    return_to: Node | None = None
    most_bytes: int = 256 * 2**20
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    return_tls: ssl.SSLContext | None = field(default=None, repr=False)


class Listener:
    """The node: a server that stores, one thread that scores, one that sends."""

    def __init__(self, config: ListenerConfig, spool: Spool, results: DicomResults) -> None:
        """Nothing is opened yet; raises `InputError` if pynetdicom is missing."""
        require_extra("listen", "dicom-results", "pynetdicom")
        self._config, self._spool, self._results = config, spool, results
        self._stop, self._arrived, self._made = threading.Event(), threading.Event(), threading.Event()
        self._server: Any = None
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Opens the port and starts to work, with what the spool holds first.

        Raises:
            InputError: The port cannot be opened.
        """
        from pynetdicom import AE, evt
        from pynetdicom.sop_class import (  # type: ignore[attr-defined]
            ComputedRadiographyImageStorage,
            DigitalXRayImageStorageForPresentation,
            Verification,
        )

        entity = AE(ae_title=self._config.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self._config.callers)
        entity.add_supported_context(Verification)
        for sop_class in (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation):
            entity.add_supported_context(sop_class, _transfer_syntaxes())
        handlers: list[Any] = [
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_REJECTED, lambda event: logger.warning("refused an association")),
            *_size_guard(2 * self._config.most_bytes),
        ]
        address = (self._config.host, self._config.port)
        try:
            self._server = entity.start_server(
                address, block=False, evt_handlers=handlers, ssl_context=self._config.tls
            )
        except OSError as error:
            raise InputError(
                f"port is {self._config.port}: cannot be opened on {self._config.host} ({error.strerror})"
            ) from error
        for work in (self._score, self._send):
            thread = threading.Thread(target=work, name=work.__name__, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Closes the port and waits for what is being scored or sent."""
        self._server.shutdown()
        self._stop.set()
        self._arrived.set()
        self._made.set()
        for thread in self._threads:
            thread.join()

    def _store(self, event: Any) -> int:
        """Answers a C-STORE request."""
        content: bytes = event.encoded_dataset()
        if len(content) > self._config.most_bytes:
            logger.warning("refused an object of %d bytes", len(content))
            return OUT_OF_RESOURCES
        digest = hashlib.sha256(content).hexdigest()
        if self._spool.is_done(digest):
            return SUCCESS
        try:
            path = self._spool.write(content, digest)
            status, reason = _inspect(path, event.request.AffectedSOPInstanceUID)
            if status == SUCCESS:
                self._spool.accept(path, digest)
            else:
                self._spool.quarantine(path, digest, reason)
        except OSError as error:
            logger.error("cannot store (%s)", error.strerror)
            return OUT_OF_RESOURCES
        self._arrived.set()
        return status

    def _score(self) -> None:
        while not self._stop.is_set():
            self._arrived.clear()
            for path in self._spool.incoming():
                if self._stop.is_set():
                    return
                self._score_one(path)
            self._arrived.wait()

    def _score_one(self, path: Path) -> None:
        """One object: results or quarantine. A defect of this program takes the object away, not the service."""
        digest = path.stem
        if self._spool.is_done(digest):  # sent again while it was scored
            self._spool.close(digest)
            return
        if self._spool.begin(digest) > MOST_ATTEMPTS:
            self._spool.quarantine(path, digest, f"scoring it ended the process {MOST_ATTEMPTS} times")
            return
        try:
            classifier = self._results.classifier
            (row,) = predict_sources(classifier, [path]).to_dict("records")
            if row[ERROR_COLUMN]:
                raise InputError(str(row[ERROR_COLUMN]).replace(f"{path}: ", ""))
            folder = self._spool.folder("scoring", digest)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            files = self._results.write(path, [row[name] for name in probability_columns(classifier.classes)], folder)
        except InputError as error:
            self._spool.quarantine(path, digest, str(error))
            return
        except Exception as error:  # its text may quote the file
            self._spool.quarantine(path, digest, f"a defect of this program ({type(error).__name__}): report it")
            return
        self._spool.finish(digest)
        logger.info("scored %s: %d results", digest[:12], len(files))
        self._made.set()

    def _send(self) -> None:
        node = self._config.return_to
        pause = FIRST_RETRY_S
        while node is not None and not self._stop.is_set():
            self._made.clear()
            sent = [self._send_folder(node, folder) for folder in self._spool.outgoing()]
            if all(sent):
                pause = FIRST_RETRY_S
                self._made.wait()
            else:
                logger.warning("results are kept; they are sent again in %.0f s", pause)
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_RETRY_S)

    def _send_folder(self, node: Node, folder: Path) -> bool:
        """Sends what a folder holds and removes what is taken; whether all was."""
        from pydicom import dcmread
        from pynetdicom import AE

        datasets = {file: dcmread(file) for file in sorted(folder.glob("*.dcm"))}
        entity = AE(ae_title=self._config.ae_title)
        for dataset in datasets.values():
            entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        tls = None if self._config.return_tls is None else (self._config.return_tls, node.host)
        association = entity.associate(node.host, node.port, ae_title=node.ae_title, tls_args=tls)
        if not association.is_established:
            return False
        try:
            for file, dataset in datasets.items():
                with suppress(ValueError, RuntimeError):  # the node took no context for it, or went away
                    status = association.send_c_store(dataset).get("Status")
                    if status is not None and (status == SUCCESS or status >> 12 == 0xB):  # 0xB000: with a warning
                        file.unlink()
        finally:
            association.release()
        return not any(folder.iterdir())


def _inspect(path: Path, instance: str) -> tuple[int, str]:
    """The status with which an object is answered, and the reason where it cannot be used."""
    try:
        with open_header(path) as header:
            pixels = (header.integer("Rows") or 0) * (header.integer("Columns") or 0)
            if header.text("SOPInstanceUID") != str(instance):
                return DOES_NOT_MATCH, "SOPInstanceUID is another than the request's"
    except InputError as error:
        return CANNOT_UNDERSTAND, str(error)
    if pixels > LARGEST_PIXELS:
        return OUT_OF_RESOURCES, f"{pixels} pixels, more than {LARGEST_PIXELS}"
    return SUCCESS, ""


def _transfer_syntaxes() -> list[str]:
    """Encodings of pixels that can be decoded here."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID
    from pynetdicom import ALL_TRANSFER_SYNTAXES

    def decodable(syntax: UID) -> bool:
        try:
            return not syntax.is_compressed or get_decoder(syntax).is_available
        except NotImplementedError:
            return False

    return [syntax for syntax in map(UID, ALL_TRANSFER_SYNTAXES) if decodable(syntax)]


def _size_guard(most: int) -> Iterator[tuple[Any, Callable[[Any], None]]]:
    """Handlers that abort an association which sends more than `most` bytes for one message: memory is bounded."""
    from pynetdicom import evt
    from pynetdicom.pdu import P_DATA_TF

    received: dict[int, int] = {}

    def count(event: Any) -> None:
        if isinstance(event.pdu, P_DATA_TF):
            key = id(event.assoc)
            received[key] = received.get(key, 0) + len(event.pdu)
            if received[key] > most:
                logger.warning("aborted an association after %d bytes of one object", received.pop(key))
                event.assoc.abort()

    def forget(event: Any) -> None:
        received.pop(id(event.assoc), None)

    yield evt.EVT_PDU_RECV, count
    for end in (evt.EVT_DIMSE_RECV, evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE):
        yield end, forget
