"""Predictions tables of made-up models."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

THREE = ("normal", "tuberculosis", "covid")


@pytest.fixture
def make_predictions() -> Callable[..., pd.DataFrame]:
    """A maker of tables whose labels are drawn from the probabilities, two images per patient."""

    def make(
        n_images: int = 60, classes: Sequence[str] = THREE, sites: Sequence[str] = ("north",), seed: int = 0
    ) -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        scores = generator.dirichlet(np.ones(len(classes)), n_images)
        frame = pd.DataFrame(
            {
                "path": [f"image_{number}.png" for number in range(n_images)],
                "patient_id": [f"{number // 2:04d}" for number in range(n_images)],
                "site": [sites[(number // 2) % len(sites)] for number in range(n_images)],
                "label": [classes[generator.choice(len(classes), p=row)] for row in scores],
                "model_uri": "models:/m-1",
                "relevance_in_lung": generator.random(n_images),
                "view": "PA",
            }
        )
        for index, name in enumerate(classes):
            frame[f"probability_{name}"] = scores[:, index]
        return frame

    return make
