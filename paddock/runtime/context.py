"""What a session lends to the tools of one run. Knows no tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.runtime.budget import Ledger
    from paddock.runtime.keeper import Keeper
    from paddock.runtime.secrecy import Secrecy
    from paddock.sandbox import Sandbox

__all__ = ["SessionContext"]


@dataclass(kw_only=True)
class SessionContext:
    """The sandbox of the session with the run's secrets, and the account that its budget is
    counted in.

    `failure` is what kept the sandbox from being made.
    """

    keeper: Keeper[Sandbox]
    ledger: Ledger
    secrecy: Secrecy
    failure: Exception | None = None

    async def sandbox(self) -> Sandbox:
        """The session's sandbox, made at the first call, once."""
        try:
            return self.secrecy.lend(await self.keeper.get())
        except Exception as error:
            self.failure = error
            raise
