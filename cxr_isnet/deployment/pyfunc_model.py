"""The model that MLflow stores, as code: loads the classifier it was logged with and predicts from file paths."""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from cxr_isnet.inference import Classifier


class ChestXrayModel(PythonModel):
    """Paths of X-rays in (PNG, JPEG or DICOM), class probabilities out. Research software, not a medical device."""

    def load_context(self, context: PythonModelContext) -> None:
        self._classifier = Classifier.load(context.artifacts["checkpoint"])

    def predict(
        self, context: PythonModelContext, model_input: list[str], params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Columns `path` and `probability_<class>`: the network's own; with `params={"calibrated": True}`, calibrated.

        Raises `InputError` naming a file that cannot be read.
        """
        return self._classifier.predict(model_input, calibrated=bool((params or {}).get("calibrated", False)))


mlflow.models.set_model(ChestXrayModel())
