"""References: values too big for a prompt, which stay in the store under an id of their own.

An id is made of the value under a secret key of the tenant: the same value has the same id, and
ids of two tenants have nothing to do with each other.
"""

from __future__ import annotations

import datetime as dt
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from paddock.errors import ReferenceFailed
from paddock.runtime.core.calling import call
from paddock.runtime.orchestration.records import StoredReference, canonical
from paddock.runtime.orchestration.schemas import problems_of, shown
from paddock.runtime.orchestration.spec import ReferenceSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from paddock.runtime.orchestration.store import TenantStore

__all__ = ["References"]

ID_LENGTH = 32
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")

MAX_VALUE = 64 << 20
"""Bytes of a value as JSON: the largest record that a store reads back."""


class References:
    """Makes and reads the references of one tenant, of the kinds `specs`."""

    def __init__(self, store: TenantStore, specs: Iterable[ReferenceSpec]) -> None:
        self._store = store
        self._specs = {spec.name: spec for spec in specs}
        self._key: bytes | None = None

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
        plain, text = _plain(spec.name, value)
        if problems := problems_of(plain, spec.schema):
            raise ReferenceFailed(spec.name, "schema", f"invalid value: {'; '.join(problems)}")
        if isinstance(kind, ReferenceSpec) and kind.glimpse is not None:
            glimpse = await call(kind.glimpse, value)
        shown_as, _ = _plain(spec.name, {} if glimpse is None else glimpse)
        ttl = spec.ttl_ms
        now = dt.datetime.now(dt.UTC)
        made = StoredReference(
            kind=spec.name,
            id=hmac.digest(await self._tenant_key(), text, "sha256").hex()[:ID_LENGTH],
            value=plain,
            glimpse=shown_as,
            expires_at=None if ttl is None else now + dt.timedelta(milliseconds=ttl),
        )
        await self._store.references.change(_row(made.kind, made.id), lambda _: made)
        return {"kind": made.kind, "id": made.id, "glimpse": shown_as}

    async def resolve(self, reference: object) -> Any:
        """Return the whole value.

        `reference` is a mapping or an object with `kind` and `id`. Raises `ReferenceFailed` for a
        kind that is unknown, and for a reference that is not there, has expired, or is another
        tenant's, and `TypeError` for what is no reference.
        """
        return (await self._find(reference)).value

    async def glimpse(self, reference: object) -> Any:
        """Return the glimpse alone. Raises as `resolve` does."""
        return (await self._find(reference)).glimpse

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

    async def _find(self, reference: object) -> StoredReference:
        kind, identity = kind_and_id(reference)
        self._spec(kind)
        row = _row(kind, identity)
        known = await self._store.references.get(row) if _ID.fullmatch(identity) else None
        if known is not None and not known.is_expired:
            return known
        reason = f"{identity!r} cannot be resolved: it was never created, or is not kept any more"
        if known is not None:
            raise ReferenceFailed(kind, "expired", reason)
        elsewhere = await self._store.references.is_elsewhere(row)
        raise ReferenceFailed(kind, "other_tenant" if elsewhere else "gone", reason)

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


def _plain(kind: str, value: Any) -> tuple[Any, bytes]:
    """Return `value` as JSON values, models by their aliases, and as canonical JSON."""
    try:
        plain = to_jsonable_python(value, by_alias=True, inf_nan_mode="constants")
        text = canonical(plain)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        raise ReferenceFailed(kind, "schema", f"the value is not JSON: {error}") from error
    if len(text) > MAX_VALUE:
        reason = f"the value has {len(text)} bytes; the most that is kept is {MAX_VALUE}"
        raise ReferenceFailed(kind, "schema", reason)
    return plain, text
