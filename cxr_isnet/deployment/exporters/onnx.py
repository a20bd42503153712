"""ONNX: a graph that ONNX Runtime and other engines run without torch."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from cxr_isnet.config import require_extra
from cxr_isnet.deployment.exporter import Exporter, capture, description
from cxr_isnet.files import DISCLAIMER, atomic_write, write_json
from cxr_isnet.inference import Classifier


def _write(classifier: Classifier, folder: Path) -> tuple[Path, ...]:
    """`model.onnx` with the description in its metadata, and `model.json` with the same."""
    require_extra("format 'onnx'", "export", "onnx", "onnxscript")
    import onnx

    program = torch.onnx.export(
        capture(classifier), input_names=["images"], output_names=["probabilities"], dynamo=True, verbose=False
    )
    assert program is not None  # as it is with dynamo=True
    model = program.model_proto
    for part in (model.graph, *model.functions):
        del part.metadata_props[:]
        for node in part.node:
            del node.metadata_props[:]  # names of Python modules and source files
    about = description(classifier)
    model.doc_string = DISCLAIMER
    values = {"disclaimer": DISCLAIMER, **about}
    onnx.helper.set_model_props(
        model, {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    )
    onnx.checker.check_model(model)
    with atomic_write(folder / "model.onnx") as partial:
        onnx.save(model, partial)
    write_json(folder / "model.json", about)
    return folder / "model.onnx", folder / "model.json"


EXPORTER = Exporter("onnx", "ONNX graph: prepared images to probabilities, at any batch size", _write)
