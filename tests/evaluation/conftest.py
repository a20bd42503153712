"""Predictions tables of made-up models."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.study import evaluate_tables

THREE = ("normal", "tuberculosis", "covid")
TWO = ("normal", "tuberculosis")
AUDIT = {
    "model": "isnet",
    "verdict": "none found among those examined",
    "probes": [
        {
            "title": "Background alone",
            "verdict": "none found among those examined",
            "rule": "an AUC above chance is a sign",
            "statistics": [
                {"name": "auc", "value": 0.51, "low": 0.4, "high": None},
                {"name": "n", "value": None, "low": None},
            ],
        }
    ],
}


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


@pytest.fixture(scope="session")
def make_hospital() -> Callable[..., pd.DataFrame]:
    """A maker of tables of patients with 1 to 4 images, alike in label and correlated in score; AUC 0.86 by default."""

    def make(
        n_patients: int, prevalence: float, seed: int, site: str = "north", skill: float = 1.0, offset: float = 0.0
    ) -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        ill = generator.random(n_patients) < prevalence
        ill[:4] = [True, True, False, False]
        patient = np.repeat(np.arange(n_patients), generator.integers(1, 5, n_patients))
        noise = 0.6 * generator.normal(size=n_patients)[patient] + 0.8 * generator.normal(size=len(patient))
        score = skill * 1.5 * (ill[patient] - 0.5) + noise
        probability = 1 / (1 + np.exp(-(1.3 * score + np.log(prevalence / (1 - prevalence)) + offset)))
        return pd.DataFrame(
            {
                "path": [f"{site} {number}.png" for number in range(len(patient))],
                "patient_id": [f"{seed}-{number}" for number in patient],
                "site": site,
                "label": np.where(ill[patient], "tuberculosis", "normal"),
                "model_uri": "",
                "probability_normal": 1 - probability,
                "probability_tuberculosis": probability,
            }
        )

    return make


@pytest.fixture(scope="session")
def tables():
    """Two models on 160 images of 80 patients of two sites; the second model knows less."""
    generator = np.random.default_rng(0)
    ill = np.repeat(generator.random(80) < 0.4, 2)
    common = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(160)],
            "patient_id": [str(i // 2) for i in range(160)],
            "site": ["north" if i < 100 else "south <b>" for i in range(160)],
            "label": np.where(ill, "tuberculosis", "normal"),
            "sex": ["F" if i % 4 < 2 else "M" for i in range(160)],
            "age": [20.0 + i % 50 for i in range(160)],
        }
    )
    made = {}
    for name, skill in {"isnet": 2.0, "plain": 0.8}.items():
        chance = 1 / (1 + np.exp(-(generator.normal(size=160) + skill * (ill - 0.5) * 2)))
        made[name] = common.assign(
            model_uri=f"models:/{name}/1", probability_normal=1 - chance, probability_tuberculosis=chance
        )
    return made


@pytest.fixture(scope="session")
def study(tables):
    validation = {name: table.assign(site="inside") for name, table in tables.items()}
    settings = Settings(resamples=200, prevalence={"tuberculosis": 0.01})
    return evaluate_tables(tables, TWO, validation, settings, AUDIT)
