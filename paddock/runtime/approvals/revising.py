"""What a decision makes of a call: the arguments it runs with, and what the model reads."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.text import clean_text
from paddock.runtime.tools.arguments import fit_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.core.approval import Decision
    from paddock.runtime.core.calls import PreparedCall
    from paddock.runtime.core.tool import ToolCatalog

__all__ = ["approved", "check_revision", "parameters_of", "refusal", "skipped"]

REJECTED = "Command rejected by user."
AWAITING = "Awaiting new instructions."
TO_REVISE = "Not run: the user wants this call to be revised."


def check_revision(
    arguments: Mapping[str, Any], decision: Decision, parameters: Mapping[str, Any] | None
) -> None:
    """Raise `ArgumentError` if `decision` revises `arguments` so that they do not fit the JSON
    schema `parameters`."""
    if decision.partial is not None and parameters is not None:
        fit_arguments(parameters, {**arguments, **decision.partial})


def parameters_of(registry: ToolCatalog, name: str) -> Mapping[str, Any] | None:
    """The JSON schema of a tool's arguments; None if there is no such tool."""
    for spec in registry.get_specs():
        if spec["function"]["name"] == name:
            parameters: Mapping[str, Any] = spec["function"]["parameters"]
            return parameters
    return None


def approved(call: PreparedCall, decision: Decision) -> PreparedCall:
    """Return `call` as it runs under `decision`, which lets it run."""
    remark = f" {decision.feedback}" if decision.feedback else ""
    if decision.partial is not None:
        arguments = {**call.arguments, **decision.partial}
        changed = clean_text(json.dumps(arguments, ensure_ascii=False))
        note = f"The user changed the arguments of this call. It ran with {changed}.{remark}\n\n"
        return replace(call, arguments=arguments, note=note)
    return replace(call, note=f"The user approved this call:{remark}\n\n") if remark else call


def refusal(decision: Decision, *, ends_turn: bool) -> str:
    """Return what the model reads of a call that does not run under `decision`."""
    said = TO_REVISE if decision.outcome == "revise" else REJECTED
    if decision.feedback:
        said += f" Reason: {decision.feedback}"
    if not ends_turn:
        return said
    return f"{said}\n{AWAITING}" if decision.feedback else f"{said} {AWAITING}"


def skipped(decision: Decision) -> str:
    """Return what the model reads of the calls after one that ended the turn by `decision`."""
    did = "asked to revise" if decision.outcome == "revise" else "rejected"
    return f"Command skipped - user {did} previous command."
