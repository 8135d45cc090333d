"""The options of ``paddock map`` about which tasks begin first, and where."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from paddock.runtime.fleet.ordering import Ordering

__all__ = ["PlaceOptions"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOptions:
    """Which tasks begin first, and where; kept for `--resume`."""

    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Run on the nodes of the Ray cluster at HOST:PORT, auto or local that offer "
            "paddock_slots.",
        ),
    ] = None
    priority: Annotated[
        str | None,
        typer.Option(
            "--priority",
            metavar="FIELD",
            help="A field of the tasks with a number; higher ones start first.",
        ),
    ] = None
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="FIELD", help="A field of the tasks with a group."),
    ] = None
    cap: Annotated[
        list[str] | None,
        typer.Option(
            "--cap",
            metavar="GROUP=N",
            help="Run at most N tasks of this group at once. Repeatable.",
        ),
    ] = None
    task_image: Annotated[
        str | None,
        typer.Option(
            "--task-image",
            metavar="FIELD",
            help="A field of the tasks with the image of the sandbox, instead of the recipe's.",
        ),
    ] = None

    def settings(self, limit: int) -> dict[str, Any]:
        """Return them as arguments of a `Fleet`; `limit` is how many sandboxes run at once."""
        from paddock.runtime.fleet.cluster.placement import RayPlacement

        placement = None if self.ray is None else RayPlacement(address=self.ray, slots=limit)
        return {"placement": placement, "ordering": self._ordering()}

    def _ordering(self) -> Ordering:
        from paddock.runtime.fleet.ordering import Ordering

        caps = dict(_cap(each) for each in self.cap or ())
        return Ordering(priority=self.priority, group=self.group, caps=caps, image=self.task_image)


def _cap(text: str) -> tuple[str, int]:
    group, _, number = text.rpartition("=")
    if not group or not number.isdecimal():
        raise ConfigError(f"--cap {text!r}: give GROUP=N, such as --cap gpu=2")
    return group, int(number)
