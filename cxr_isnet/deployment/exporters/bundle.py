"""MONAI Bundle: weights, configs, metadata and a model card in the folder that `monai.bundle` runs.

Source: the MONAI Bundle specification, https://docs.monai.io/en/stable/mb_specification.html.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cxr_isnet import __version__
from cxr_isnet.config import as_plain
from cxr_isnet.deployment.exporter import Exporter
from cxr_isnet.evaluation import write_page
from cxr_isnet.files import DISCLAIMER, atomic_write, write_json
from cxr_isnet.inference import Classifier

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""The schema of `metadata.json` that bundles of MONAI's model zoo name."""


def _write(classifier: Classifier, folder: Path) -> tuple[Path, ...]:
    for name in ("configs", "docs", "models"):
        (folder / name).mkdir()
    with atomic_write(folder / "models" / "model.pt") as partial:
        torch.save({key: value.cpu() for key, value in classifier.network.state_dict().items()}, partial)
    write_json(folder / "configs" / "metadata.json", _metadata(classifier))
    for name, config in (("inference", _inference(classifier)), ("evaluate", _EVALUATE)):
        with atomic_write(folder / "configs" / f"{name}.json") as partial:  # MONAI parses every key: no disclaimer here
            partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_page(folder / "docs" / "README.md", "bundle_card.md", classifier=classifier)
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file()))


def _metadata(classifier: Classifier) -> dict[str, object]:
    size, count = classifier.image.size, len(classifier.classes)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: "exported by cxr-isnet"},
        "name": f"Chest X-ray classifier: {', '.join(classifier.classes)}",
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"cxr-isnet": __version__, "pytorch-ignite": version("pytorch-ignite")},
        "task": "Classification of frontal chest X-rays",
        "description": f"Network '{classifier.config.name}' trained by the method '{classifier.method}'. {DISCLAIMER}",
        "authors": "users of cxr-isnet",
        "copyright": "of the one who trained the model",
        "intended_use": DISCLAIMER,
        "image": asdict(classifier.image),
        "temperature": classifier.temperature,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "CR",
                    "num_channels": 1,
                    "spatial_shape": [size, size],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    "num_channels": count,
                    "spatial_shape": [1, count],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {str(index): name for index, name in enumerate(classifier.classes)},
                }
            },
        },
    }


def _inference(classifier: Classifier) -> dict[str, Any]:
    """Images of a folder to `eval/predictions.csv`: path, then the probabilities in the order of the classes."""
    return {
        "imports": [
            "$import glob",
            "$import os",
            "$import monai",
            "$import torch",
            "$from cxr_isnet.manifests import read_manifest",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "checkpoint": "$@bundle_root + '/models/model.pt'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "classes": list(classifier.classes),
        "batch_size": 16,
        "network_def": {
            "_target_": "cxr_isnet.inference.build_predictor",
            "method": classifier.method,
            "options": as_plain(classifier.options),
            "config": {"_target_": "cxr_isnet.networks.NetworkConfig", **asdict(classifier.config)},
            "classes": "$len(@classes)",
            "image_size": classifier.image.size,
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "cxr_isnet.data.make_transform",
            "image": {"_target_": "cxr_isnet.data.ImageConfig", **asdict(classifier.image)},
        },
        "files": "$sorted(path for path in glob.glob(@dataset_dir + '/*') if os.path.isfile(path))",
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path, 'path': path} for path in @files]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": "@batch_size", "num_workers": 0},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
        },
        "handlers": [
            {
                "_target_": "ClassificationSaver",
                "output_dir": "@output_dir",
                "filename": "predictions.csv",
                "batch_transform": "$lambda batch: [{'filename_or_obj': item['path']} for item in batch]",
                "output_transform": "$monai.handlers.from_engine(['pred'])",
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "initialize": [
            "$@network.load_state_dict(torch.load(@checkpoint, map_location=@device, weights_only=True))",
            "$setattr(torch.backends.cudnn, 'benchmark', False)",
        ],
        "run": ["$@evaluator.run()"],
    }


_EVALUATE: dict[str, Any] = {
    "manifest": "$@dataset_dir + '/manifest.csv'",
    "frame": "$read_manifest(@manifest)",
    "one_hot": "$torch.eye(len(@classes))",
    "dataset#data": "$[{'image': row['image'], 'path': row['image'], 'label': @one_hot[@classes.index(row['label'])]} "
    "for row in @frame.to_dict('records')]",
    "key_metric": {
        "auc": {
            "_target_": "ROCAUC",
            "average": "macro",
            "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
        }
    },
    "evaluator#key_val_metric": "@key_metric",
    "run": ["$@evaluator.run()", "$print('AUC', @evaluator.state.metrics['auc'])"],
}
"""Overrides of the inference config: the images of a manifest, and their AUC, one class against the rest."""


EXPORTER = Exporter(
    "bundle", "MONAI Bundle: weights, configs, metadata, model card; `python -m monai.bundle run`", _write
)
