"""`cxr-isnet serve`: a trained or registered model behind HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from cxr_isnet.deployment import Limits, load_classifier, make_app
from cxr_isnet.engine import Device
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import LARGEST_PIXELS
from cxr_isnet.tracking import TrackingConfig


@dataclass(frozen=True)
class ServeConfig:
    """A model behind HTTP, with MLflow's scoring protocol. It has no authentication: put a proxy with it in front.

    Attributes:
        model: Checkpoint `best.pt` of a training's folder, or a model of MLflow (`models:/NAME@champion`, a folder).
        host: Address to listen at; the default is reached from this machine only.
        port: Port to listen at.
        allow_paths: Folder whose files a request may name; null refuses every path, so that images come as content.
        max_request_mb: Largest body of a request, in MB; base64 makes a file larger by a third.
        max_pixels: Most pixels of an image; a larger one is refused before it is decoded.
        max_images: Most images of a request.
        concurrency: Requests answered at a time; the others wait.
        device: Where the model predicts.
        trust: Allows the model to name a method or network that is defined outside cxr-isnet, which is code.
        tracking: MLflow, where a model of it lies.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 5001
    allow_paths: str | None = None
    max_request_mb: int = 64
    max_pixels: int = LARGEST_PIXELS
    max_images: int = 64
    concurrency: int = 2
    device: Device = Device.AUTO
    trust: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        for name in ("max_request_mb", "max_pixels", "max_images", "concurrency"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be 1 or more")
        if not 0 <= self.port < 65536:
            raise InputError(f"port is {self.port}: it must lie between 0 and 65535")
        if self.allow_paths is not None and not Path(self.allow_paths).is_dir():
            raise InputError(f"allow_paths is '{self.allow_paths}': there is no such folder")


def serve(config: ServeConfig) -> str:
    """Serves until it is interrupted.

    Raises:
        InputError: The model cannot be used.
    """
    classifier = load_classifier(config.model, config.tracking.uri, config.device.found(), trust=config.trust)
    limits = Limits(
        request_bytes=config.max_request_mb * 1024 * 1024,
        pixels=config.max_pixels,
        images=config.max_images,
        concurrency=config.concurrency,
        paths=None if config.allow_paths is None else Path(config.allow_paths),
    )
    uvicorn.run(make_app(classifier, limits), host=config.host, port=config.port, log_level="warning")
    return ""
