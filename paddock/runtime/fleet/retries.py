"""How often a task begins again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from paddock.runtime.fleet.faults import Fault

__all__ = ["Retries"]

_MAKING: frozenset[Fault] = frozenset({"infra.provision", "infra.lost"})
_MODEL: frozenset[Fault] = frozenset({"infra.model"})
_OWN: frozenset[Fault] = frozenset({"task.failed", "task.timeout", "task.oom"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a task begins again after a failure, by whose fault it was."""

    infrastructure: int = 3
    model: int = 2
    own: int = 0

    def __post_init__(self) -> None:
        if min(self.infrastructure, self.model, self.own) < 0:
            raise ConfigError("retries: give 0 or more")

    def of(self, fault: Fault) -> tuple[int, frozenset[Fault]]:
        """Return the retries after `fault`, and the faults that they are for."""
        if fault in _MAKING:
            return self.infrastructure, _MAKING
        if fault in _MODEL:
            return self.model, _MODEL
        return (self.own, _OWN) if fault in _OWN else (0, frozenset())
