"""Keeping secrets out of what tools cut. Knows no tool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from paddock.redaction import NOTHING_SECRET
from paddock.runtime.core.tool import ToolContext

if TYPE_CHECKING:
    from paddock.redaction import Redactor
    from paddock.runtime.core.tool import ToolInvocation
    from paddock.runtime.secret_scope import SecretScope

__all__ = ["cut_line", "redactor_of"]


@runtime_checkable
class _Discreet(ToolContext, Protocol):
    """A context that knows the secrets of its run, as a session's does."""

    @property
    def secrecy(self) -> SecretScope: ...


def redactor_of(invocation: ToolInvocation) -> Redactor:
    """What hides the secrets of the run that the call is of; no sandbox is made for that."""
    context = invocation.context
    return context.secrecy.redactor if isinstance(context, _Discreet) else NOTHING_SECRET


def cut_line(text: str, width: int, redactor: Redactor) -> str:
    """`text`, or its first `width` characters and ``...``, with no part of a secret there."""
    return text if len(text) <= width else redactor.beginning(text[:width]) + "..."
