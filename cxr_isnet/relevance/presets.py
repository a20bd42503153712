"""Sets of rules by the names that zennit has for them: which rule where, as tables for `EpsilonRules`.

    lrp = LRP(network, EpsilonGammaBox(0.0, 1.0))

Convolutions have one rule, linear layers the epsilon rule, the layer that reads the image perhaps another. Batch norms
behind a layer belong to it, as with zennit's canonizers; relevance passes activations, sums and pools as it does there
with a stabiliser of 0. A table of one's own starts from that of a preset: ``{**EpsilonPlus().table, At("head"): ...}``.

Source:
    Anders et al., Software for dataset-wide XAI (zennit), 2021, arXiv 2106.13200; Montavon et al., in Explainable AI,
    LNCS 11700, 2019.
"""

from __future__ import annotations

from cxr_isnet.relevance.epsilon import EPSILON_TABLE, EpsilonRules
from cxr_isnet.relevance.first_layer import Bound, BoxRule, FirstRule, FlatRule
from cxr_isnet.relevance.layer_rules import CONVOLUTIONS, AlphaBetaRule, EpsilonRule, GammaRule
from cxr_isnet.relevance.places import AnyRule, At


def EpsilonPlus(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> EpsilonRules:
    """z+ in convolutions, epsilon in linear layers.

    Args:
        epsilon: of the epsilon rule.
        stabilizer: of the other rules' denominators.
    """
    return _preset(AlphaBetaRule(stabilizer), epsilon)


def EpsilonPlusFlat(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> EpsilonRules:
    """`EpsilonPlus` with the flat rule in the layer that reads the image; arguments likewise."""
    return _preset(AlphaBetaRule(stabilizer), epsilon, FlatRule(stabilizer))


def EpsilonAlpha2Beta1(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> EpsilonRules:
    """Alpha-beta with shares 2 and -1 in convolutions, epsilon in linear layers; arguments as of `EpsilonPlus`."""
    return _preset(AlphaBetaRule(stabilizer, 2.0, -1.0), epsilon)


def EpsilonAlpha2Beta1Flat(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> EpsilonRules:
    """`EpsilonAlpha2Beta1` with the flat rule in the layer that reads the image; arguments likewise."""
    return _preset(AlphaBetaRule(stabilizer, 2.0, -1.0), epsilon, FlatRule(stabilizer))


def EpsilonGammaBox(
    low: Bound = 0.0, high: Bound = 1.0, epsilon: float = 1e-6, gamma: float = 0.25, stabilizer: float = 1e-6
) -> EpsilonRules:
    """Gamma in convolutions, epsilon in linear layers, z^B in the layer that reads the image.

    Args:
        low: smallest value of a pixel, one for all channels or one for each.
        high: largest value, likewise.
        epsilon: of the epsilon rule.
        gamma: of the gamma rule.
        stabilizer: of the other rules' denominators.
    """
    return _preset(GammaRule(stabilizer, gamma), epsilon, BoxRule(low, high, stabilizer, biases=False))


def _preset(convolution: AnyRule, epsilon: float, first: FirstRule | None = None) -> EpsilonRules:
    table: dict[object, AnyRule] = {**EPSILON_TABLE, **dict.fromkeys(CONVOLUTIONS, convolution)}
    table["linear"] = EpsilonRule(epsilon)
    if first is not None:
        table[At(depth=0)] = first
    return EpsilonRules(epsilon=0.0, table=table)
