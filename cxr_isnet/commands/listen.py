"""`cxr-isnet listen`: a DICOM node that scores what an archive sends it and sends the results back."""

from __future__ import annotations

import logging
import signal
import ssl
import threading
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from cxr_isnet.commands.predict import dicom_results
from cxr_isnet.deployment import Listener, ListenerConfig, Node, Spool, check_ae_title, load_classifier
from cxr_isnet.engine import Device
from cxr_isnet.errors import InputError
from cxr_isnet.objectives import Explanation
from cxr_isnet.tracking import TrackingConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListenConfig:
    """A DICOM node that scores radiographs.

    Attributes:
        ae_title: Its AE title.
        port: TCP port; 0 takes a free one.
        model: Checkpoint `best.pt` of a training's folder, or a model of MLflow (`models:/NAME@champion`, a folder).
        spool: Folder for what is received and not finished; made if missing. It holds patients' images.
        callers: AE titles of the nodes that may send; others are refused.
        host: Address to listen on. The default is reached from this machine only.
        return_to: Node for the results, `AE@host:port`; null leaves them in `<spool>/outgoing`.
        segmenter: Segmenter `best.pt` of `segment train`, for the lungs; null for none.
        threshold: Of two classes, the second is decided from this probability on; null takes the model's own, which its
            validation set, or the most probable class where it has none.
        explainer: How the heatmap is made: `lrp`, `input_gradient`, `attention` or `none`; null takes the method's way.
        largest: Largest object that is taken, MiB.
        tls_certificate: PEM file of the certificate with which it proves who it is; null for no TLS.
        tls_key: PEM file of its key.
        tls_ca: PEM file of the authorities whose certificates callers, and the node for results, must have; null asks
            callers for none.
        return_tls: Sends results with TLS.
        device: Where.
        trust: Allows the checkpoint to name a method or network that is defined outside cxr-isnet, which is code.
        tracking: MLflow, where a model of it lies.
    """

    ae_title: str
    port: int
    model: str
    spool: str
    callers: list[str]
    host: str = "127.0.0.1"
    return_to: str | None = None
    segmenter: str | None = None
    threshold: float | None = None
    explainer: Explanation | None = None
    largest: int = 256
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    return_tls: bool = False
    device: Device = Device.AUTO
    trust: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if not self.callers:
            raise InputError("callers is empty: name the AE titles that may send")
        for title in (self.ae_title, *self.callers):
            check_ae_title("ae_title or callers", title)
        if not 0 <= self.port < 65536 or self.largest < 1:
            raise InputError(f"port is {self.port} and largest {self.largest}: 0 to 65535 and at least 1 are needed")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InputError("tls_certificate and tls_key go together: give both, or none")


def listen(config: ListenConfig) -> str:
    """Listens until it is told to end (SIGINT, SIGTERM); what is received by then is scored when it listens again.

    Raises:
        InputError: A model, a certificate, the spool or the port cannot be used.
    """
    classifier = load_classifier(config.model, config.tracking.uri, config.device.found(), trust=config.trust)
    classifier.explainer(config.explainer)  # raises before anything is opened
    node = None if config.return_to is None else Node.parse(config.return_to)
    settings = ListenerConfig(
        config.ae_title,
        config.host,
        config.port,
        tuple(config.callers),
        node,
        config.largest * 2**20,
        None if config.tls_certificate is None else _context(config, ssl.Purpose.CLIENT_AUTH),
        _context(config, ssl.Purpose.SERVER_AUTH) if config.return_tls else None,
    )
    if settings.tls is None and not _is_loopback(config.host):
        logger.warning(
            "%s is reached from other machines, and without TLS: patients' images go unencrypted", config.host
        )
    try:
        spool = Spool(Path(config.spool))
    except OSError as error:
        raise InputError(f"spool is '{config.spool}': cannot be written ({error.strerror})") from error
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    listener = Listener(settings, spool, dicom_results(config, classifier))
    listener.start()
    logger.info("%s listens on %s port %d", config.ae_title, config.host, listener.port)
    ended.wait()
    listener.stop()
    return ""


def _context(config: ListenConfig, purpose: ssl.Purpose) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=config.tls_ca)
        if config.tls_certificate is not None:
            context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"tls_certificate, tls_key or tls_ca cannot be read: {error}") from error
    if purpose is ssl.Purpose.CLIENT_AUTH and config.tls_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
