"""References: values too big for a prompt, which stay in the store under an id of their own.

An id is made of the value under a secret key of the tenant: the same value has the same id, and
ids of two tenants have nothing to do with each other.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from paddock._logs import get_logger
from paddock.errors import ReferenceFailed, SessionError
from paddock.runtime.core.calling import call
from paddock.runtime.orchestration.records import StoredReference, decode, encode
from paddock.runtime.orchestration.schemas import problems_by
from paddock.runtime.orchestration.spec import ReferenceSpec
from paddock.runtime.orchestration.values import as_json, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from paddock.runtime.orchestration.store import TenantStore
    from paddock.runtime.orchestration.stores.base import Rows

__all__ = ["References"]

ID_LENGTH = 32
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")

MAX_VALUE = 64 << 20
"""Bytes of a value as JSON: the largest record that a store reads back."""

_TABLE, _VALUES = "references", "values"
"""What is kept of references, and the values themselves, which are big."""

LOOKS = 3600.0
"""Seconds between two looks for references that have expired: each reads all but their values."""

REMEMBERED = dt.timedelta(days=1)
"""How long after its end a reference is still reported as expired rather than unknown."""

_log = get_logger(__name__)


class References:
    """Makes and reads the references of one tenant, of the kinds `specs`."""

    def __init__(self, store: TenantStore, specs: Iterable[ReferenceSpec]) -> None:
        self._store = store
        self._specs = {spec.name: spec for spec in specs}
        self._key: bytes | None = None
        self._next_look = 0.0
        """When to look for references that have expired, by the monotonic clock."""

    async def create(
        self, kind: ReferenceSpec | str, value: Any, glimpse: Any = None
    ) -> dict[str, Any]:
        """Keep `value`, and return its kind, its id and its glimpse.

        The spec's callback makes the glimpse of the value as it was given; it is called once. For
        a kind by its name, `glimpse` is what is kept. A value that is kept already gets this
        glimpse, and lasts as long as if it were new. Raises `ReferenceFailed`, with nothing kept,
        for an unknown kind and for a value that does not fit the kind's schema.
        """
        spec = self._spec(kind)
        text = await asyncio.to_thread(_checked, spec, value)  # it may be big
        if isinstance(kind, ReferenceSpec) and kind.glimpse is not None:
            glimpse = await call(kind.glimpse, value)
        shown_as, _ = _plain(spec.name, {} if glimpse is None else glimpse)
        identity = hmac.digest(await self._tenant_key(), text, "sha256").hex()[:ID_LENGTH]
        row = _row(spec.name, identity)

        def keep(rows: Rows) -> None:
            rows.put(_TABLE, row, encode(StoredReference.of(shown_as, ttl_ms=spec.ttl_ms)))
            rows.put(_VALUES, row, text)

        await self._store.do(keep, writing=True)
        await self._forget_old()
        return {"kind": spec.name, "id": identity, "glimpse": shown_as}

    async def resolve(self, reference: object) -> Any:
        """Return the whole value.

        `reference` is a mapping or an object with `kind` and `id`. Raises `ReferenceFailed` for a
        kind that is unknown, and for a reference that is not there, has expired, or is another
        tenant's, and `TypeError` for what is no reference.
        """
        _, value = await self._find(reference, whole=True)
        return await asyncio.to_thread(json.loads, value)

    async def glimpse(self, reference: object) -> Any:
        """Return the glimpse alone. Raises as `resolve` does."""
        known, _ = await self._find(reference, whole=False)
        return known.glimpse

    def _spec(self, kind: ReferenceSpec | str) -> ReferenceSpec:
        if not isinstance(kind, ReferenceSpec | str):
            raise TypeError(f"a reference's kind is its spec or its name, not {shown(kind)}")
        name = kind if isinstance(kind, str) else kind.name
        known = self._specs.get(name)
        if known is None:
            kinds = ", ".join(sorted(self._specs)) or "none"
            reason = f"unknown kind; define_runtime(references=[...]) has {kinds}"
            raise ReferenceFailed(name, "unknown_kind", reason)
        return known

    async def _find(self, reference: object, *, whole: bool) -> tuple[StoredReference, bytes]:
        """Return what is kept of a reference, and its value if that is wanted `whole`."""
        kind, identity = kind_and_id(reference)
        self._spec(kind)
        row = _row(kind, identity)

        def find(rows: Rows) -> tuple[bytes | None, bytes, bool]:
            known, value = rows.get(_TABLE, row), rows.get(_VALUES, row) if whole else None
            return known, value or b"", known is None and rows.is_elsewhere(_TABLE, row)

        known, value, elsewhere = None, b"", False
        if _ID.fullmatch(identity):
            known, value, elsewhere = await self._store.do(find, writing=False)
        code: Literal["gone", "expired", "other_tenant"] = "other_tenant" if elsewhere else "gone"
        if known is not None:
            found = decode(StoredReference, known)
            if not found.has_expired():
                return found, value
            code = "expired"
        reason = f"{identity!r} cannot be resolved: it was never created, or is no longer kept"
        raise ReferenceFailed(kind, code, reason)

    async def _forget_old(self) -> None:
        """Remove what expired a while ago, if that was not done lately."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOKS

        def forget(rows: Rows) -> None:
            for row, data in rows.all(_TABLE):
                if decode(StoredReference, data).has_expired(since=REMEMBERED):
                    rows.delete(_TABLE, row)
                    rows.delete(_VALUES, row)

        try:
            await self._store.do(forget, writing=True)
        except SessionError as error:  # the reference itself is kept
            _log.warning("expired references could not be removed: %s", error)

    async def _tenant_key(self) -> bytes:
        if self._key is None:
            self._key = await self._store.secret("references", secrets.token_bytes(32))
        return self._key


def kind_and_id(reference: object) -> tuple[str, str]:
    """Return what `reference`, a mapping or an object, is called. Raise `TypeError` if nothing."""
    if isinstance(reference, Mapping):
        kind, identity = reference.get("kind"), reference.get("id")
    else:
        kind, identity = getattr(reference, "kind", None), getattr(reference, "id", None)
    if not isinstance(kind, str) or not isinstance(identity, str):
        raise TypeError(f"a reference has a `kind` and an `id`, both text, not {shown(reference)}")
    return kind, identity


def _row(kind: str, identity: str) -> str:
    return f"{identity}/{kind}"


def _checked(spec: ReferenceSpec, value: Any) -> bytes:
    """Return `value` as canonical JSON. Raise `ReferenceFailed` if it does not fit the schema."""
    plain, text = _plain(spec.name, value)
    if problems := problems_by(plain, spec.schema):
        raise ReferenceFailed(spec.name, "schema", f"invalid value: {'; '.join(problems)}")
    return text


def _plain(kind: str, value: Any) -> tuple[Any, bytes]:
    """Return `value` as JSON values, models by their aliases, and as canonical JSON."""
    try:
        plain, text = as_json(value)
    except TypeError as error:
        raise ReferenceFailed(kind, "schema", f"the value is not JSON: {error}") from error
    if len(text) > MAX_VALUE:
        reason = f"the value has {len(text)} bytes; the most that is kept is {MAX_VALUE}"
        raise ReferenceFailed(kind, "schema", reason)
    return plain, text
