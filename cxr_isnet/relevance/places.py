"""Which rule where: the keys of a table that are places in a network, and the rule that every node gets."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.first_layer import FirstRule
from cxr_isnet.relevance.layer_rules import LAYERS
from cxr_isnet.relevance.trace import Node, Trace
from cxr_isnet.relevance.transposes import Rule

AnyRule = Rule | FirstRule
"""What a table can hold."""


@dataclass(frozen=True)
class At:
    """Key of a table: the layers (convolutions and linear ones) at some place of a network.

    Attributes:
        path: module path, as in ``named_modules``, that they are or lie in; ``*`` and ``?`` as in names of files. Empty
            for anywhere.
        depth: their position among the layers in the order in which they are run: 0 the first, -1 the last; or the
            first and the last position of a range. None for any.
        operations: names of the ATen operations that are meant.

    Example:
        >>> from cxr_isnet.relevance import EPSILON_TABLE, AlphaBetaRule, FlatRule, GammaRule
        >>> table = {**EPSILON_TABLE, At("features"): GammaRule(), At(depth=0): FlatRule()}
        >>> table[At(depth=(1, 3))] = AlphaBetaRule(alpha=2, beta=-1)
    """

    path: str = ""
    depth: int | tuple[int, int] | None = None
    operations: tuple[Hashable, ...] = LAYERS

    def holds(self, trace: Trace, node: Node, layers: Sequence[int]) -> bool:
        """Whether a node is meant; `layers` are those of the network, in order."""
        if node.operation not in self.operations:
            return False
        if self.depth is not None:
            if node.index not in layers:
                return False
            low, high = self.depth if isinstance(self.depth, tuple) else (self.depth, self.depth)
            position, count = layers.index(node.index), len(layers)
            if not low % count <= position <= (high % count if high < count else high):
                return False
        if not self.path:
            return True
        if not trace.named:
            raise RelevanceError(
                f"At('{self.path}') is looked for in a pass that has no names of modules, as one of a network that "
                "skips other parts at every step: give depths or operations instead of paths"
            )
        return self.exists([node.name.rsplit(".", i)[0] for i in range(node.name.count(".") + 1)])

    def exists(self, paths: Iterable[str]) -> bool:
        """Whether one of the module paths is meant."""
        return not self.path or any(fnmatchcase(path, self.path) for path in paths)


def choose_rules(
    trace: Trace, table: Mapping[Hashable, AnyRule], inside: Mapping[Hashable, Hashable] | None = None
) -> dict[int, AnyRule]:
    """The rule of every node that the table has one for: the last `At` that fits, else that of its operation.

    With `inside`, instead the rules of operations that are a part of another: by that other, as attention, the part.
    """
    places = [(place, rule) for place, rule in table.items() if isinstance(place, At)]
    layers = [node.index for node in trace.nodes if node.operation in LAYERS]
    nodes = trace.nodes
    if inside is not None:
        nodes = tuple(replace(node, operation=inside[node.operation]) for node in nodes if node.operation in inside)
    rules = {node.index: table[node.operation] for node in nodes if node.operation in table}
    for node in nodes:
        for place, rule in places:
            if place.holds(trace, node, layers):
                rules[node.index] = rule
    return rules
