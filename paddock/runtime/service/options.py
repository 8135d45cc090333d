"""What a runtime is made with. Knows the environment, and no runtime."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock.runtime.agents.config import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paddock.backends.base import Backend
    from paddock.runtime.core.approval import ApprovalStore
    from paddock.runtime.core.budget import Budget
    from paddock.runtime.permissions.profile import PermissionProfile

__all__ = ["RuntimeOptions"]


def _env(name: str, default: str | None = None) -> Callable[[], Any]:
    return lambda: os.environ.get(name) or default


@dataclass(kw_only=True)
class RuntimeOptions:
    """What a runtime is made with; the environment is read when an instance is made.

    - `model` (OPENAI_MODEL), `base_url` (OPENAI_BASE_URL), `reasoning_effort`
      (PADDOCK_REASONING_EFFORT): see `AgentConfig`.
    - `profile` (PADDOCK_PROFILE): a name, a file or a `PermissionProfile`; None is
      ``readonly``. `backend` (PADDOCK_BACKEND): a name or a recipe.
    - `working_dir`: where the tools work. `auto_approve`: whether what needs approval is
      approved when there is no callback; otherwise it is rejected, or waits in `approval_store`
      if that is given (see `SessionSettings`).
    - `team_id`, `project_id` (PADDOCK_TEAM_ID, PADDOCK_PROJECT_ID): with both, telemetry is
      kept, as `observability_config` (PADDOCK_OBSERVABILITY_CONFIG, a file) says, whose own
      tenant goes before these only if it is not the file that the environment names;
      `telemetry_metadata` goes with the session.
    - `session_id`: a new one unless given. `secrets` and `budget`: those of the session, for
      all its runs; see `Session`.
    - `enable_delegate`: whether the agent has the tool ``delegate``, whatever its profile;
      the profile decides whether calls need approval. The agent of a given session is not
      given the tool: it can only lose it.
    """

    model: str = field(default_factory=_env("OPENAI_MODEL", DEFAULT_MODEL))
    base_url: str | None = field(default_factory=_env("OPENAI_BASE_URL"))
    reasoning_effort: str | None = field(default_factory=_env("PADDOCK_REASONING_EFFORT"))
    working_dir: str | None = None
    profile: str | PermissionProfile | None = field(default_factory=_env("PADDOCK_PROFILE"))
    backend: str | Backend = field(default_factory=_env("PADDOCK_BACKEND", "local"))
    auto_approve: bool = True
    approval_store: ApprovalStore | None = None
    team_id: str | None = field(default_factory=_env("PADDOCK_TEAM_ID"))
    project_id: str | None = field(default_factory=_env("PADDOCK_PROJECT_ID"))
    observability_config: str | None = field(default_factory=_env("PADDOCK_OBSERVABILITY_CONFIG"))
    session_id: str | None = None
    telemetry_metadata: dict[str, Any] = field(default_factory=dict)
    enable_delegate: bool = True
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    budget: Budget | None = None
