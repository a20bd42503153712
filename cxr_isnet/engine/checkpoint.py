"""Numbers, texts and tensors in one file, written whole or not at all, read without running any code.

A name that ends in `.safetensors` gets that format, which holds no pickle at all; any other the one of torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.files import atomic_write

SAFETENSORS = ".safetensors"
FORMAT = 3
"""Of what is written. Files of formats 1 (before methods had options in it) and 2 (when the first stride of ResNets
was 1) are still read."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes `state` so that a kill at any moment leaves either the old file or the new one."""
    content = {"format": FORMAT, **state}
    with atomic_write(path) as partial:
        try:
            if path.suffix == SAFETENSORS:
                _write_safetensors(partial, content)
            else:
                torch.save(content, partial)
        except (RuntimeError, SafetensorError) as error:  # both libraries hide why they could not write
            written = partial.stat().st_size if partial.is_file() else 0
            if shutil.disk_usage(path.parent).free > max(written, 2**20):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def load_state(path: Path) -> dict[str, Any]:
    """Reads what `save_state` wrote (numbers, strings and tensors only).

    Raises:
        InputError: If the file is missing, damaged, of another program or of a newer version of this one.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint. Give best.pt of a training's folder")
    state = _read_safetensors(path) if path.suffix == SAFETENSORS else _read_torch(path)
    found = state.get("format") if isinstance(state, dict) else None
    if type(found) is not int or found < 1:
        raise InputError(f"{path}: not a checkpoint of this program (format 1 to {FORMAT})")
    if found > FORMAT:
        raise InputError(
            f"{path}: a checkpoint of a newer version (format {found}; this one reads 1 to {FORMAT}). Update cxr-isnet"
        )
    return dict(state)


def check_whole(path: Path) -> None:
    """Finds what a disk or a copy has damaged: torch writes a CRC-32 of each part of a file, and never looks at it.

    Args:
        path: What `torch.save` wrote, as a zip.

    Raises:
        InputError: A part is not what it was, or the file is no zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}): copy it anew from its source") from error
    if part is not None:
        raise InputError(f"{path}: damaged: its part {part!r} is not what was written. Copy it anew from its source")


def _write_safetensors(path: Path, content: Mapping[str, Any]) -> None:
    """Mappings of tensors as `<key>/<name>`, all else as JSON in the header."""
    groups = {
        key: value
        for key, value in content.items()
        if isinstance(value, Mapping) and value and all(isinstance(item, Tensor) for item in value.values())
    }
    tensors = {f"{key}/{name}": tensor.clone().contiguous() for key, g in groups.items() for name, tensor in g.items()}
    plain = json.dumps({key: value for key, value in content.items() if key not in groups})
    save_file(tensors, path, metadata={"state": plain, "sha256": _digest(plain, tensors)})


def _digest(plain: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state: safetensors has no checksum of its own."""
    digest = hashlib.sha256(plain.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> Any:
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            plain = about.get("state", "null")
            state, tensors = json.loads(plain), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            for name, tensor in tensors.items() if isinstance(state, dict) else ():
                key, _, own = name.partition("/")
                state.setdefault(key, {})[own] = tensor
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: damaged, or no checkpoint ({type(error).__name__}): give one of this program"
        ) from error
    if "sha256" in about and about["sha256"] != _digest(plain, tensors):
        raise InputError(f"{path}: damaged: its content is not what was written. Copy it anew from its source")
    return state


def _read_torch(path: Path) -> Any:
    if not zipfile.is_zipfile(path):  # torch's reader of older, bare pickles fails on other files in too many ways
        raise InputError(f"{path}: damaged, or no checkpoint: give one of this program")
    check_whole(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: not a checkpoint of this program: it holds more than numbers, texts and tensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path}: damaged, or no checkpoint ({type(error).__name__}): give one of this program"
        ) from error


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turns what a block raises that uses the content of a file which is not as this program writes it into an
    `InputError` that names the file."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{path}: damaged, or of another version ({type(error).__name__}: {error}). Restore the file"
        ) from error


def load_network(network: nn.Module, weights: Mapping[str, Any], path: Path, device: str | torch.device) -> nn.Module:
    """The network made ready for use: as `load_weights`, then on `device` and in evaluation mode."""
    load_weights(network, weights, path)
    return network.to(device).eval()


def load_weights(module: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    """Loads a state dict; raises `InputError` naming the first differences if it is another network's, or the first
    weight that no training leaves: NaN or infinite, or a negative variance of a batch norm."""
    if not (isinstance(weights, Mapping) and all(isinstance(value, Tensor) for value in weights.values())):
        raise InputError(f"{path}: damaged: its weights are no tensors by name. Restore the file")
    own = module.state_dict()
    missing, foreign = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    other = [k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape]
    if missing or foreign or other:
        parts = [("missing", missing), ("not in this network", foreign), ("of another shape", other)]
        differences = "; ".join(f"{len(names)} {what}, e.g. {names[0]}" for what, names in parts if names)
        raise InputError(
            f"{path}: the checkpoint is of another network: {differences}. Give the network it was trained with"
        )
    for name, value in weights.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InputError(f"{path}: damaged: {name} holds NaN or infinite values. Restore the file, or train again")
        if name.endswith("running_var") and bool((value < 0).any()):
            raise InputError(f"{path}: damaged: {name} holds negative variances. Restore the file, or train again")
    with damaged(path):
        module.load_state_dict(weights)
