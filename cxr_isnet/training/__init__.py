"""Training of classifiers: an experiment config in, an evaluated, logged and registered model out.

Reading order: `config` (everything that decides what a run does), `partitions` (rows by role), `initialisation`
(weights to start from), `frozen_part` (what is not trained), `bound_estimation`, `experiment` (all of it together),
`temperature`, `self_check`; then `leave_one_site_out`, and `comparison` with its `controls`.
"""

from cxr_isnet.training.comparison import (
    Trial,
    controls_of,
    plan_trials,
    run_trials,
    trial_costs,
    trial_tables,
    with_settings,
)
from cxr_isnet.training.config import DataConfig, TrainConfig
from cxr_isnet.training.experiment import train
from cxr_isnet.training.initialisation import read_experiment_config
from cxr_isnet.training.leave_one_site_out import FoldPlan, SiteFolds, fold_tables, galleries, plan, train_folds

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
