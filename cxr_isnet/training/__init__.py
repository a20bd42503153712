"""Training of classifiers: an experiment config in, an evaluated, logged and registered model out.

Reading order: `config` (everything that decides what a run does), `partitions` (rows by role), `initialisation`
(weights to start from), `frozen_part` (what is not trained), `bound_estimation`, `experiment` (all of it together),
`finish` (what comes after the last epoch) with `decision` and `self_check`; then `leave_one_site_out`, and `comparison`
with its `controls`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from cxr_isnet.training.config import DataConfig, TrainConfig

if TYPE_CHECKING:
    from cxr_isnet.training.comparison import (
        Trial,
        controls_of,
        plan_trials,
        run_trials,
        trial_costs,
        trial_tables,
        with_settings,
    )
    from cxr_isnet.training.experiment import train
    from cxr_isnet.training.initialisation import read_experiment_config
    from cxr_isnet.training.leave_one_site_out import FoldPlan, SiteFolds, fold_tables, galleries, plan, train_folds

_TRAINING = {
    **dict.fromkeys(
        ("Trial", "controls_of", "plan_trials", "run_trials", "trial_costs", "trial_tables", "with_settings"),
        "comparison",
    ),
    "train": "experiment",
    "read_experiment_config": "initialisation",
    **dict.fromkeys(("FoldPlan", "SiteFolds", "fold_tables", "galleries", "plan", "train_folds"), "leave_one_site_out"),
}

__all__ = [
    "DataConfig",
    "FoldPlan",
    "SiteFolds",
    "TrainConfig",
    "Trial",
    "controls_of",
    "fold_tables",
    "galleries",
    "plan",
    "plan_trials",
    "read_experiment_config",
    "run_trials",
    "train",
    "train_folds",
    "trial_costs",
    "trial_tables",
    "with_settings",
]


def __getattr__(name: str) -> object:
    """What trains, on demand: it brings scikit-learn, Matplotlib and pandera, which `train --help` does without."""
    if name in _TRAINING:
        return getattr(import_module(f"cxr_isnet.training.{_TRAINING[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
