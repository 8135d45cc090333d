"""Sandboxes seen from outside: listed while they live, and deleted by id."""

from __future__ import annotations

import dataclasses
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from paddock.testing.conformance.base import LISTING, Conformance, needs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.base import Backend

__all__ = ["ListingTests", "ids"]


async def ids(recipe: Backend, labels: Mapping[str, str]) -> list[str]:
    """Return the ids of the sandboxes with these labels."""
    return [info.id for info in await recipe.list(labels)]


@needs(LISTING)
class ListingTests(Conformance):
    @pytest.fixture
    def recipe(self, backend: Backend) -> Backend:
        """A recipe whose sandboxes can be told from all others."""
        return dataclasses.replace(backend, labels={"test": secrets.token_hex(6), "kind": "a=b c"})

    async def test_a_sandbox_is_listed_while_it_lives(self, recipe: Backend) -> None:
        assert await recipe.list(recipe.labels) == []
        async with recipe.sandbox() as sandbox:
            (info,) = await recipe.list(recipe.labels)
            assert (info.id, info.backend) == (sandbox.id, sandbox.backend)
            assert (info.state, info.owner) == ("running", "alive")
            assert info.labels == recipe.labels
            assert abs(datetime.now(UTC) - info.created) < timedelta(minutes=5)
            assert info in await recipe.list()
        assert await recipe.list(recipe.labels) == []

    async def test_only_what_has_all_the_labels_is_listed_oldest_first(
        self, recipe: Backend
    ) -> None:
        other = dataclasses.replace(recipe, labels={**recipe.labels, "more": "1"})
        async with recipe.sandbox() as first, other.sandbox() as second:
            assert await ids(recipe, recipe.labels) == [first.id, second.id]
            assert await ids(recipe, other.labels) == [second.id]
            assert await ids(recipe, {**recipe.labels, "more": "2"}) == []

    async def test_deleting_what_is_not_there_is_false(self, recipe: Backend) -> None:
        async with recipe.sandbox() as sandbox:
            for name in ("", "nothing", "..", "../docker", "*", "a=b", "paddock-"):
                assert await recipe.delete(name) is False, name
            assert (await sandbox.exec("true")).ok
