"""Trainable layer-wise relevance propagation (LRP) for any network of operations that have rules. Imports torch only.

    from cxr_isnet.relevance import LRP
    lrp = LRP(network)                        # images in [0, 1]
    logits, relevance = lrp(images)           # relevance.image: (B, classes, C, H, W), differentiable

Reading order: `recorder` (the forward pass as a list of steps; `kept`: what some of them keep), `trace` (the structure
of that list), `transposes`, `nonlinear` and `epsilon` (the rules and the backward pass of relevance), `first_layer`
(z^B), `alpha_beta` (z+), `targets` (the explained quantity), `verification` (is the record the network?), `lrp` (the
module of all of it), `in_graph` (under torch.compile).
"""

from cxr_isnet.relevance.alpha_beta import ALPHA_BETA_TABLE, AlphaBetaRules, AlphaBetaStart, SignedRule
from cxr_isnet.relevance.epsilon import EPSILON_TABLE, EpsilonPoints, EpsilonRules
from cxr_isnet.relevance.errors import MissingRuleError, RelevanceError
from cxr_isnet.relevance.lrp import LRP, Relevance, Rules
from cxr_isnet.relevance.nonlinear import gate
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
from cxr_isnet.relevance.transposes import linear_map

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
    "gate",
    "highest",
    "linear_map",
    "log_odds",
    "per_class",
    "selective",
    "stochastic",
    "sum_of_logits",
    "top_probability",
]
