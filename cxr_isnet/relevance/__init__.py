"""Trainable layer-wise relevance propagation (LRP) for ReLU networks. Imports torch only.

    from cxr_isnet.relevance import LRP
    lrp = LRP(network)                        # any ReLU network, images in [0, 1]
    logits, relevance = lrp(images)           # relevance.image: (B, classes, C, H, W), differentiable

Reading order: `trace` (a network as a list of steps), `forward` (the forward pass), `transposes` and `epsilon` (the
rules and the backward pass of relevance), `first_layer` (z^B), `alpha_beta` (z+), `targets` (the explained quantity),
`lrp` (the module of all of it).
"""

from cxr_isnet.relevance.alpha_beta import ALPHA_BETA_TABLE, AlphaBetaRules, AlphaBetaStart, SignedRule
from cxr_isnet.relevance.epsilon import EPSILON_TABLE, EpsilonPoints, EpsilonRules
from cxr_isnet.relevance.errors import MissingRuleError, RelevanceError
from cxr_isnet.relevance.lrp import LRP, Relevance, Rules
from cxr_isnet.relevance.targets import (
    classes,
    highest,
    log_odds,
    per_class,
    selective,
    stochastic,
    sum_of_logits,
    top_probability,
)
from cxr_isnet.relevance.trace import Call

__all__ = [
    "ALPHA_BETA_TABLE",
    "EPSILON_TABLE",
    "LRP",
    "AlphaBetaRules",
    "AlphaBetaStart",
    "Call",
    "EpsilonPoints",
    "EpsilonRules",
    "MissingRuleError",
    "Relevance",
    "RelevanceError",
    "Rules",
    "SignedRule",
    "classes",
    "highest",
    "log_odds",
    "per_class",
    "selective",
    "stochastic",
    "sum_of_logits",
    "top_probability",
]
