"""Errors of the relevance engine."""


class RelevanceError(ValueError):
    """The network, a setting or a rule does not allow relevance to be computed; the message says what would."""


OWN_MODULE = "Put that part into a module of its own and give the module a rule"
"""The way out where a part of a network has no relevance by itself."""


class NotLogitsError(RelevanceError):
    """The network returned something else than logits (B, classes)."""


class UnfitRuleError(RelevanceError):
    """A rule of this package failed where an operation of its name is used in a way that it does not know."""

    def __init__(self, operation: object, name: str, error: Exception) -> None:
        super().__init__(f"the rule of \"{operation}\" does not fit its use at '{name}': {error}. {OWN_MODULE}")


class MissingRuleError(RelevanceError):
    """An operation of the network has no rule in the table."""

    def __init__(self, name: str, what: str, rules: str) -> None:
        super().__init__(
            f"no relevance rule for {what} (at '{name}' in the network). Give one: "
            f"{rules}(table={{**{rules}().table, {what}: your_rule}}), where your_rule is like those in "
            "cxr_isnet/relevance (docs/how-to/relevance-rule.md); for a module of your own as one step, its class is "
            "the key. Or use an operation that has one."
        )
