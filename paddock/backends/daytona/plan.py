"""What a sandbox keeps of the recipe that it was made by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The values that its forks have, too.

    `working_dir` is None for the image's own. `lease` is in seconds; `silence` is in minutes, after
    which Daytona stops a sandbox whose maker is silent; `goes_when_stopped`, whether it deletes it
    then.
    """

    env_vars: Mapping[str, str]
    labels: Mapping[str, str]
    working_dir: str | None
    lease: float | None
    silence: int | None
    goes_when_stopped: bool
