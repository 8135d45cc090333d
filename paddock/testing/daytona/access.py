"""The control plane's calls about ways into a sandbox: previews, ssh, signed file URLs.

Knows nothing of what is behind them.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import secrets
import time
import uuid
from typing import TYPE_CHECKING

from paddock.testing.daytona.envelope import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paddock.testing.daytona.calls import Answer, Call, Routes
    from paddock.testing.daytona.clock import Clock
    from paddock.testing.daytona.fleet import Fleet
    from paddock.testing.daytona.sandbox import Sandbox

__all__ = ["Access", "signature_holds"]

_DAY = 24 * 60 * 60  # seconds, the longest that a signed URL may hold


def signature_holds(sandbox: Sandbox, method: str, query: Mapping[str, str]) -> bool:
    """Whether the SDK signed this file URL with the sandbox's key, and it still holds.

    `expires` is real time, as the SDK takes it from its own clock; 0 is for ever.
    """
    expires = query.get("expires", "")
    if not expires.isdigit() or 0 < int(expires) < time.time():
        return False
    text = f"v1:files:{method}:{query.get('path', '')}:{expires}"
    digest = hmac.new(sandbox.signing_key.encode(), text.encode(), hashlib.sha256).digest()
    right = "v1_" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return hmac.compare_digest(query.get("signature", "").encode(), right.encode())


class Access:
    """Handlers by method and path template."""

    def __init__(self, *, fleet: Fleet, clock: Clock, url: Callable[[], str]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._url = url

    @property
    def routes(self) -> Routes:
        """What this part of the API answers."""
        one = "/sandbox/{sandboxIdOrName}"
        signed = f"{one}/ports/{{port}}/signed-preview-url"
        return {
            ("GET", f"{one}/ports/{{port}}/preview-url"): self._preview,
            ("GET", signed): self._sign,
            ("POST", f"{signed}/{{token}}/expire"): self._expire,
            ("POST", f"{one}/ssh-access"): self._ssh,
            ("DELETE", f"{one}/ssh-access"): self._revoke,
            ("GET", "/sandbox/ssh-access/validate"): self._validate,
            ("GET", "/sandbox/{sandboxId}/signing-key"): self._key,
            ("POST", "/sandbox/{sandboxId}/signing-key/rotate"): self._rotate,
        }

    def admits(self, who: str, port: int, token: str | None) -> bool:
        """Whether a preview may be shown: `who` is the id of a sandbox that runs, or a token
        that was signed for it.

        An id needs the sandbox's preview token, unless the sandbox is public.
        """
        if (sandbox := self._fleet.sandboxes.get(who)) is not None:
            public = bool(sandbox.settings["public"])
            allowed = public or secrets.compare_digest(token or "", sandbox.token)
            return allowed and sandbox.state == "started"
        for each in self._fleet.live():
            known, until = each.signed.get(who, (None, 0.0))
            if known == port and until > self._clock.seconds():
                return each.state == "started"
        return False

    async def _preview(self, call: Call) -> Answer:
        sandbox, port = self._fleet.find(call.target), _port(call)
        url = f"{self._url()}/preview/{sandbox.id}/{port}"
        return {"sandboxId": sandbox.id, "url": url, "token": sandbox.token}

    async def _sign(self, call: Call) -> Answer:
        sandbox, port = self._fleet.find(call.target), _port(call)
        seconds = call.query_number("expiresInSeconds", 60)
        if not 1 <= seconds <= _DAY:
            raise ApiError(400, "expiresInSeconds must be between 1 second and 24 hours")
        token = secrets.token_hex(8)
        sandbox.signed[token] = (port, self._clock.seconds() + seconds)
        url = f"{self._url()}/preview/{token}/{port}"
        return {"sandboxId": sandbox.id, "port": port, "token": token, "url": url}

    async def _expire(self, call: Call) -> Answer:
        self._fleet.find(call.target).signed.pop(call.path("token"), None)
        return None

    async def _ssh(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        minutes = call.query_number("expiresInMinutes", 60)
        token = secrets.token_hex(16)
        sandbox.ssh[token] = self._clock.seconds() + minutes * 60
        now = self._clock.now()
        return {
            "id": str(uuid.uuid4()),
            "sandboxId": sandbox.id,
            "token": token,
            "expiresAt": (now + dt.timedelta(minutes=minutes)).isoformat(),
            "createdAt": now.isoformat(),
            "updatedAt": now.isoformat(),
            "sshCommand": f"ssh {token}@127.0.0.1",
        }

    async def _revoke(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        token = call.request.query.get("token")
        if token is None:
            sandbox.ssh.clear()
        else:
            sandbox.ssh.pop(token, None)
        return self._fleet.wire(sandbox)

    async def _validate(self, call: Call) -> Answer:
        token = call.request.query["token"]
        for sandbox in self._fleet.live():
            if sandbox.ssh.get(token, 0.0) > self._clock.seconds():
                return {"valid": True, "sandboxId": sandbox.id}
        return {"valid": False, "sandboxId": ""}

    async def _key(self, call: Call) -> Answer:
        return self._fleet.find(call.target).signing_key

    async def _rotate(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        sandbox.signing_key = secrets.token_hex(32)
        return sandbox.signing_key


def _port(call: Call) -> int:
    port = call.number("port")
    if not 1 <= port <= 65535:
        raise ApiError(400, "Invalid port")
    return port
