"""Models beside controls: classifiers that see no lungs, whose AUC a shortcut reaches too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.bootstrap import PatientBootstrap, Replicates
from cxr_isnet.evaluation.confusion import FloatArray
from cxr_isnet.evaluation.interval import Interval, paired_interval
from cxr_isnet.evaluation.metrics import EvaluatedImages, overall_metrics
from cxr_isnet.evaluation.page import interval_text
from cxr_isnet.evaluation.predictions_table import label_indices, probabilities
from cxr_isnet.evaluation.ranking import HandTillAUC
from cxr_isnet.evaluation.site import by_site

NO_CONTROLS = (
    "No control was given: nothing says how much of an AUC the background alone reaches. `cxr-isnet evaluate-model` "
    "makes controls of the training manifests (--training); a training leaves their tables in "
    "external/<control>/predictions.csv, which `cxr-isnet evaluate` takes (--controls thumbnail=FILE)"
)
_AUC = "auc"


@dataclass(frozen=True)
class ControlResult:
    """A control at a site, and the models on the same images.

    Attributes:
        control: its name.
        n_images: labelled images that it sees; the mask's shape, of those with a mask.
        auc: of the control; of more than two classes, Hand and Till's.
        minus_control: model to its AUC on these images less that of the control, by a paired bootstrap over patients.
    """

    control: str
    n_images: int
    auc: Interval
    minus_control: Mapping[str, Interval]

    def no_better(self, model: str) -> bool:
        """Whether the model is not shown to be better: the interval of the difference reaches down to 0."""
        difference = self.minus_control[model]
        return math.isfinite(difference.estimate) and not difference.low > 0


def compare_with_controls(
    tables: Mapping[str, pd.DataFrame],
    controls: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> dict[str, tuple[ControlResult, ...]]:
    """Every model against every control, at every site and on all together.

    Args:
        tables: model to its checked predictions, all of the same images in the same order.
        controls: control to its checked predictions of some or all of these images.
        classes: names of the classes.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Site to results; a control without a labelled image there is left out.

    Raises:
        InputError: a control has predicted none of the images.
    """
    first = next(iter(tables.values())).reset_index(drop=True)
    for name, control in controls.items():
        if not first["path"].isin(control["path"]).any():
            raise InputError(
                f"control '{name}' has none of the images of the predictions, as {first['path'].iloc[0]}. Give the "
                "control's table of the same images"
            )
    found = {}
    for site, there in by_site(first).items():
        rows = {name: there.index[there["path"].isin(control["path"])] for name, control in controls.items()}
        found[site] = tuple(
            _result(
                name,
                control,
                {model: table.iloc[rows[name]] for model, table in tables.items()},
                classes,
                resamples,
                seed,
            )
            for name, control in controls.items()
            if (label_indices(there.loc[rows[name]], classes) >= 0).any()
        )
    return found


def _result(
    name: str,
    control: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
    resamples: int,
    seed: int,
) -> ControlResult:
    first = next(iter(tables.values()))
    bootstrap = PatientBootstrap.of(first, resamples=resamples, seed=seed)
    labels = label_indices(first, classes)
    scores = probabilities(control.set_index("path").loc[first["path"]], classes)
    (auc,) = (metric for metric in overall_metrics() if metric.name == _AUC)
    images = EvaluatedImages(tuple(classes), labels, scores, scores.argmax(axis=1), np.full(len(labels), np.nan), {})
    patients = auc.patients(images, bootstrap.patients, -1)

    def replicates(of: FloatArray) -> Replicates:
        return bootstrap.resample({_AUC: HandTillAUC(labels, of)})

    own = replicates(scores)
    reached = auc.interval(own.estimate(_AUC), own.column(_AUC), patients)
    differences = {}
    for model, table in tables.items():
        its = replicates(probabilities(table, classes))
        differences[model] = paired_interval(
            its.estimate(_AUC) - own.estimate(_AUC), its.column(_AUC) - own.column(_AUC), patients, reached.approximate
        )
    return ControlResult(name, int(np.sum(labels >= 0)), reached, differences)


def control_sentences(controls: Mapping[str, Sequence[ControlResult]]) -> list[str]:
    """What controls reach at each site, and which models are no better, in sentences."""
    if not controls:
        return [NO_CONTROLS]
    found = []
    for site, results in controls.items():
        reached = ", ".join(f"{result.control} {interval_text(result.auc)}" for result in results)
        if reached:
            found.append(f"{site}: controls that see no lungs reach an AUC of {reached}")
        found += [
            f"{site}: {model} is no better than the {result.control.replace('_', ' ')}: its AUC less that of the "
            f"control is {interval_text(difference)}"
            for result in results
            for model, difference in result.minus_control.items()
            if result.no_better(model)
        ]
    return found
