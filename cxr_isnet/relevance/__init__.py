"""Trainable layer-wise relevance propagation (LRP) for any network of operations that have rules. Imports torch only.

    from cxr_isnet.relevance import LRP
    lrp = LRP(network)                        # images in [0, 1]
    logits, relevance = lrp(images)           # relevance.image: (B, classes, C, H, W), differentiable

Reading order: `recorder` (the forward pass as a list of steps; `kept`: what some of them keep), `trace` (the structure
of that list), `transposes`, `nonlinear` and `epsilon` (the rules and the backward pass of relevance), `first_layer`
(z^B, flat, w^2), `layer_rules` (gamma, z+ of a layer), `places` and `presets` (which rule where), `alpha_beta` (z+ of a
network), `targets` (the explained quantity), `verification` (is the record the network?), `lrp` (the module of all of
it), `in_graph` (under torch.compile).
"""

from cxr_isnet.relevance.alpha_beta import ALPHA_BETA_TABLE, AlphaBetaRules, AlphaBetaStart, SignedRule
from cxr_isnet.relevance.epsilon import EPSILON_TABLE, EpsilonPoints, EpsilonRules
from cxr_isnet.relevance.errors import MissingRuleError, RelevanceError
from cxr_isnet.relevance.first_layer import BoxRule, FlatRule, WSquareRule
from cxr_isnet.relevance.layer_rules import AlphaBetaRule, EpsilonRule, GammaRule, Layer, LayerRule
from cxr_isnet.relevance.lrp import LRP, Relevance, Rules
from cxr_isnet.relevance.nonlinear import gate
from cxr_isnet.relevance.places import At
from cxr_isnet.relevance.presets import (
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
)
from cxr_isnet.relevance.signal import by_map, inverse, per_channel, summed_to, times
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
    "AlphaBetaRule",
    "AlphaBetaRules",
    "AlphaBetaStart",
    "At",
    "BoxRule",
    "Call",
    "EpsilonAlpha2Beta1",
    "EpsilonAlpha2Beta1Flat",
    "EpsilonGammaBox",
    "EpsilonPlus",
    "EpsilonPlusFlat",
    "EpsilonPoints",
    "EpsilonRule",
    "EpsilonRules",
    "FlatRule",
    "GammaRule",
    "Layer",
    "LayerRule",
    "MissingRuleError",
    "Relevance",
    "RelevanceError",
    "Rules",
    "SignedRule",
    "WSquareRule",
    "by_map",
    "classes",
    "gate",
    "highest",
    "inverse",
    "linear_map",
    "log_odds",
    "per_channel",
    "per_class",
    "selective",
    "stochastic",
    "sum_of_logits",
    "summed_to",
    "times",
    "top_probability",
]
