"""Whose turn it is to call a model: calls of many runs may share a limit."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = ["MODEL_GATE", "ModelGate", "ModelTurn"]


class ModelTurn(Protocol):
    """One call that may be made now."""

    def limited(self) -> None:
        """Note that the service had too many requests (429)."""
        ...


class ModelGate(Protocol):
    def turn(self) -> AbstractAsyncContextManager[ModelTurn]:
        """Wait until a call may be made; the call is made within the block.

        What leaves the block without an error, and was not `limited`, was answered.
        """
        ...


MODEL_GATE: ContextVar[ModelGate | None] = ContextVar("MODEL_GATE", default=None)
"""The gate of the model calls that are made in a context, and in tasks that begin there."""
