from dataclasses import dataclass, field
from enum import Enum

import pytest
from mlflow.utils.validation import _validate_metric_name

from cxr_isnet.tracking.parameters import flatten, safe_key


class Variant(Enum):
    DUAL = "dual"


@dataclass(frozen=True)
class Loss:
    variant: Variant = Variant.DUAL
    weights: dict[str, float] = field(default_factory=lambda: {"background": 3.0})


def test_nested_mappings_and_dataclasses_get_dotted_keys():
    flat = flatten({"loss": Loss(), "seed": 1, "name": None})

    assert flat == {"loss.variant": "dual", "loss.weights.background": "3.0", "seed": "1", "name": "None"}


def test_lists_are_one_value_and_empty_mappings_have_none():
    assert flatten({"sites": ["a", "b"], "extra": {}}) == {"sites": "['a', 'b']"}


def test_nothing_gives_nothing():
    assert flatten({}) == {}


def test_long_values_are_cut_with_a_sign_of_it():
    (value,) = flatten({"classes": "x" * 10_000}).values()

    assert len(value) == 6000
    assert value.endswith("x...")


@pytest.mark.parametrize("name", ["auc", "Site C (2)/auc", "//a//b/", "a=b,c", "../x", "", "äöü", "x" * 300])
def test_every_name_becomes_one_that_mlflow_takes(name):
    safe = safe_key(name)

    _validate_metric_name(safe)
    assert len(safe) <= 250
