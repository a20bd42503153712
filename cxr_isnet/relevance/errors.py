"""Errors of the relevance engine."""


class RelevanceError(ValueError):
    """The network, a setting or a rule does not allow relevance to be computed; the message says what would."""


class NotLogitsError(RelevanceError):
    """The network returned something else than logits (B, classes)."""


class MissingRuleError(RelevanceError):
    """An operation of the network has no rule in the table."""

    def __init__(self, name: str, what: str, rules: str) -> None:
        super().__init__(
            f"no relevance rule for {what} (at '{name}' in the network). Give one: "
            f"{rules}(table={{**{rules}().table, {what}: your_rule}}), where your_rule is like those in "
            "cxr_isnet/relevance; or use an operation that has one."
        )
