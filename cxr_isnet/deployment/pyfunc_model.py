"""The model that MLflow stores, as code: loads the classifier it was logged with, and answers for any image."""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from cxr_isnet.inference import Classifier, as_sources, predict_sources


class ChestXrayModel(PythonModel):
    """X-rays in (PNG, JPEG or DICOM), class probabilities out. Research software, not a medical device."""

    classifier: Classifier

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the classifier beside this file."""
        self.classifier = Classifier.load(context.artifacts["checkpoint"])

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """A row for each image, as `cxr_isnet.inference.predict_sources` gives it.

        Args:
            context: Not used.
            model_input: Paths and contents, as `cxr_isnet.inference.as_sources` takes them: not only a DataFrame, which
                is the one hint that makes MLflow hand over every kind of input as it is.
            params: `calibrated` and `heatmap`, both False by default.
        """
        asked = params or {}
        return predict_sources(
            self.classifier,
            as_sources(model_input),
            calibrated=bool(asked.get("calibrated", False)),
            heatmap=bool(asked.get("heatmap", False)),
        )


mlflow.models.set_model(ChestXrayModel())
