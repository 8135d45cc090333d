"""The context of a tool that is called without a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.redaction import NOTHING_SECRET
from paddock.runtime.core.context import RunContext

if TYPE_CHECKING:
    from paddock.redaction import Redactor
    from paddock.sandbox import Sandbox


def lending(
    sandbox: Sandbox | None = None, *, redactor: Redactor = NOTHING_SECRET
) -> RunContext[None]:
    """Return a context that lends `sandbox`."""

    async def get() -> Sandbox:
        assert sandbox is not None
        return sandbox

    get_sandbox = None if sandbox is None else get
    return RunContext(deps=None, redactor=redactor, get_sandbox=get_sandbox)
