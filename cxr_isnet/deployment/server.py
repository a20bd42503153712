"""The scoring server: MLflow's protocol around a classifier, for callers that are not trusted."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cxr_isnet.errors import InputError
from cxr_isnet.files import DISCLAIMER
from cxr_isnet.imaging import LARGEST_PIXELS
from cxr_isnet.inference import Classifier, Source, SourceReader, as_sources, predict_sources

_log = logging.getLogger(__name__)

_TABLES = ("inputs", "instances", "dataframe_split", "dataframe_records")
_PARAMS = ("calibrated", "heatmap")
_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
        request_bytes: Of a request's body; of more, no byte beyond is read.
        pixels: Of an image; a larger one is refused before it is decoded.
        images: Of a request.
        concurrency: Requests that are read and answered at a time, each with a process that decodes its images; the
            others wait, unread.
        read_seconds: For a body to arrive.
        decode_seconds: For one image.
        paths: Folder whose files may be named; None refuses every path.
    """

    request_bytes: int = 64 * 1024 * 1024
    pixels: int = LARGEST_PIXELS
    images: int = 64
    concurrency: int = 2
    read_seconds: float = 60.0
    decode_seconds: float = 60.0
    paths: Path | None = None


class _Refused(Exception):
    """A request that is answered with a status and its reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def make_app(classifier: Classifier, limits: Limits) -> Starlette:
    """The server as an ASGI application.

    `POST /invocations` takes what MLflow's scoring server takes as JSON: `inputs`, `instances`, `dataframe_split` or
    `dataframe_records`, each of base64 text (DICOM, PNG, JPEG) or, where allowed, paths; and `params`. It answers
    `{"predictions": [...]}`, a row for each image as `predict_sources` gives it. The status is 200 where an image could
    be read, 422 where none could, and another 4xx, with `error`, where the request itself is refused. `GET /ping`,
    `/health` and `/version` are as MLflow's.

    Args:
        classifier: The classifier.
        limits: What a request may ask for.
    """
    readers: asyncio.Queue[SourceReader] = asyncio.Queue()

    @asynccontextmanager
    async def reading_processes(app: Starlette) -> AsyncIterator[None]:
        with ExitStack() as stack:
            for _ in range(limits.concurrency):
                reader = SourceReader(classifier.image, largest_pixels=limits.pixels, seconds=limits.decode_seconds)
                readers.put_nowait(stack.enter_context(reader))
            yield

    async def invocations(request: Request) -> Response:
        try:
            if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
                raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "give a body of type application/json")
            reader = await readers.get()  # before the body is read: who waits holds no memory
            try:
                body = await _body(request, limits)
                return await asyncio.to_thread(_answer, classifier, reader, body, limits)
            finally:
                readers.put_nowait(reader)
        except _Refused as refused:
            return JSONResponse({"error": str(refused)}, refused.status)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except MemoryError:
            return JSONResponse({"error": "the request needs more memory than there is"}, _TOO_LARGE)
        except Exception:
            _log.exception("a request failed")
            return JSONResponse({"error": "internal error"}, HTTPStatus.INTERNAL_SERVER_ERROR)

    async def ping(request: Request) -> Response:
        return Response("\n", media_type="application/json")

    async def version(request: Request) -> Response:
        return Response(mlflow.version.VERSION)

    return Starlette(
        routes=[
            Route("/invocations", invocations, methods=["POST"]),
            Route("/ping", ping),
            Route("/health", ping),
            Route("/version", version),
        ],
        lifespan=reading_processes,
    )


async def _body(request: Request, limits: Limits) -> bytes:
    too_large = _Refused(
        _TOO_LARGE,
        f"the body is larger than {limits.request_bytes} bytes: send fewer images at once",
    )
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.request_bytes:
        raise too_large
    found = bytearray()
    try:
        async with asyncio.timeout(limits.read_seconds):
            async for chunk in request.stream():
                found += chunk
                if len(found) > limits.request_bytes:
                    raise too_large
    except TimeoutError:
        raise _Refused(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {limits.read_seconds:g} s"
        ) from None
    return bytes(found)


def _answer(classifier: Classifier, reader: SourceReader, body: bytes, limits: Limits) -> Response:
    given, params = _parsed(body)
    try:
        sources = as_sources(given)
    except InputError as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
    if not 0 < len(sources) <= limits.images:
        raise _Refused(HTTPStatus.BAD_REQUEST, f"{len(sources)} images: give 1 to {limits.images} in a request")
    allowed = [_allowed(source, limits) for source in sources]
    table = predict_sources(classifier, allowed, reader=reader, **params)
    rows = [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")]
    readable = any(not row["error"] for row in rows)
    content: dict[str, Any] = {"predictions": rows, "disclaimer": DISCLAIMER}
    if not readable:
        content["error"] = "; ".join(dict.fromkeys(str(row["error"]) for row in rows))
    return JSONResponse(content, HTTPStatus.OK if readable else HTTPStatus.UNPROCESSABLE_ENTITY)


def _parsed(body: bytes) -> tuple[Any, dict[str, bool]]:
    """Images and parameters of a request's body."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, f"the body is no JSON ({type(error).__name__})") from error
    found = [name for name in _TABLES if isinstance(content, dict) and name in content]
    if len(found) != 1:
        raise _Refused(HTTPStatus.BAD_REQUEST, f"the body must have one of the keys {', '.join(_TABLES)}")
    params = content.get("params") or {}
    if not isinstance(params, dict) or any(
        key not in _PARAMS or not isinstance(value, bool) for key, value in params.items()
    ):
        raise _Refused(HTTPStatus.BAD_REQUEST, f"params must be true or false for {' or '.join(_PARAMS)}")
    return _table(found[0], content[found[0]]), params


def _table(name: str, given: Any) -> Any:
    try:
        if name == "dataframe_split":
            return pd.DataFrame(given["data"], columns=given.get("columns"))
        if name == "dataframe_records":
            return pd.DataFrame.from_records(given)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, f"'{name}' is no table: {error}") from error
    if isinstance(given, list) and given and all(isinstance(entry, Mapping) for entry in given):
        return _table("dataframe_records", given)
    if not isinstance(given, str | list | dict):
        raise _Refused(HTTPStatus.BAD_REQUEST, f"'{name}' must be a list of base64 texts")
    return given


def _allowed(source: Source | InputError, limits: Limits) -> Source | InputError:
    if not isinstance(source, Path):
        return source
    if limits.paths is None:
        return InputError("not the content of a DICOM, PNG or JPEG file as base64, and paths are refused")
    try:
        resolved = source.resolve()
    except (OSError, RuntimeError, ValueError):
        return InputError("a path that cannot be followed")
    root = limits.paths.resolve()
    return resolved if resolved.is_relative_to(root) else InputError("a path outside the folder that is allowed")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
