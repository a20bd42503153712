"""Training of classifiers: an experiment config in, an evaluated, logged and registered model out.

Reading order: `config` (everything that decides what a run does), `partitions` (rows by role), `initialisation`
(weights to start from), `frozen_part` (what is not trained), `bound_estimation`, `experiment` (all of it together),
`finish` (what comes after the last epoch) with `controls`, `decision` and `self_check`; then `leave_one_site_out` and
`comparison`.
"""

from typing import TYPE_CHECKING

from cxr_isnet.on_demand import names_on_demand
from cxr_isnet.training.config import DataConfig, TrainConfig

if TYPE_CHECKING:
    from cxr_isnet.training.comparison import (
        Trial,
        heatmap_weights,
        plan_trials,
        run_trials,
        trial_costs,
        trial_tables,
        with_settings,
    )
    from cxr_isnet.training.controls import controls_of, fitted_controls
    from cxr_isnet.training.experiment import train
    from cxr_isnet.training.initialisation import read_experiment_config
    from cxr_isnet.training.leave_one_site_out import (
        FoldPlan,
        SiteFolds,
        fold_controls,
        fold_tables,
        galleries,
        plan,
        train_folds,
    )
    from cxr_isnet.training.partitions import read_partitions, shared_images

__all__ = [
    "DataConfig",
    "FoldPlan",
    "SiteFolds",
    "TrainConfig",
    "Trial",
    "controls_of",
    "fitted_controls",
    "fold_controls",
    "fold_tables",
    "galleries",
    "heatmap_weights",
    "plan",
    "plan_trials",
    "read_experiment_config",
    "read_partitions",
    "run_trials",
    "shared_images",
    "train",
    "train_folds",
    "trial_costs",
    "trial_tables",
    "with_settings",
]

__getattr__ = names_on_demand(
    __name__,
    {
        "comparison": (
            "Trial",
            "heatmap_weights",
            "plan_trials",
            "run_trials",
            "trial_costs",
            "trial_tables",
            "with_settings",
        ),
        "controls": ("controls_of", "fitted_controls"),
        "experiment": ("train",),
        "initialisation": ("read_experiment_config",),
        "leave_one_site_out": (
            "FoldPlan",
            "SiteFolds",
            "fold_controls",
            "fold_tables",
            "galleries",
            "plan",
            "train_folds",
        ),
        "partitions": ("read_partitions", "shared_images"),
    },
)
"""What trains: it brings scikit-learn, Matplotlib and pandera, which `train --help` does without."""
