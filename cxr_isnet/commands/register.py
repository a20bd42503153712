"""`cxr-isnet register` and `cxr-isnet rollback`: a run's model to the registry, through a gate, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field

from cxr_isnet.deployment import GateConfig, read_gate, register, rollback
from cxr_isnet.tracking import TrackingConfig, check_registered_name, open_store, reached, resolve_uri


@dataclass(frozen=True)
class RegisterConfig:
    """Registration of a trained model, which becomes the champion if it passes a gate.

    Attributes:
        run: Id of the MLflow run that trained it (`run.json` in the training's folder says it).
        name: Registered name. The version gets the alias `candidate`, and `champion` if the gate holds.
        gate: Rules of the gate (YAML); null takes the defaults, which the how-to page lists.
        dry_run: Decides and changes nothing.
        tracking: MLflow; only the store is looked at.
    """

    run: str
    name: str
    gate: str | None = None
    dry_run: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        check_registered_name(self.name)


def register_run(config: RegisterConfig) -> tuple[str, int]:
    """Registers; returns the decision as text and the exit status, 1 where the gate does not hold.

    Raises:
        InputError: The gate or the run cannot be used, or the name stands for another method.
    """
    gate = GateConfig() if config.gate is None else read_gate(config.gate)
    uri = resolve_uri(config.tracking.uri)
    with reached(uri):
        found = register(open_store(uri), config.run, config.name, gate, dry_run=config.dry_run)
    if found.version is None:
        done = "dry run: nothing was changed"
    else:
        alias = "@candidate and @champion" if found.promoted else "@candidate"
        done = f"models:/{found.name}/{found.version} is {alias}"
    return f"{found.decision.text()}\n{done}", 0 if found.decision.passed else 1


@dataclass(frozen=True)
class RollbackConfig:
    """Return to the champion that the present one replaced.

    Attributes:
        name: Registered name.
        tracking: MLflow; only the store is looked at.
    """

    name: str
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        check_registered_name(self.name)


def roll_back(config: RollbackConfig) -> str:
    """Gives the alias back; returns what was done.

    Raises:
        InputError: There is no champion, or the version before was deleted.
    """
    uri = resolve_uri(config.tracking.uri)
    with reached(uri):
        was, now = rollback(open_store(uri), config.name)
    if now is None:
        return f"models:/{config.name}/{was} was the first @champion: no version has the alias now"
    return f"models:/{config.name}/{now} is @champion again, as it was before version {was}"
