"""In which order tasks begin: by priority, longest first, and with caps for groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock._frozen import FrozenMapping
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from paddock.runtime.fleet.tasks import Task

__all__ = ["Ordering"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """Which fields of tasks that are objects say when, how many at once and on what they run.

    - `priority`: a field with a number; higher ones begin first, without it a task has 0.
    - `group`: a field with the name of a group, of which `caps` may limit how many tasks run
      at once.
    - `image`: a field with the image of the task's sandbox, instead of the recipe's.

    Among tasks of one priority, those whose earlier attempts took longest begin first.
    """

    priority: str | None = None
    group: str | None = None
    caps: Mapping[str, int] = field(default_factory=FrozenMapping)
    image: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "caps", FrozenMapping(self.caps))
        if self.caps and self.group is None:
            raise ConfigError("caps are for groups; say which field has the group")
        for group, cap in self.caps.items():
            if cap < 1:
                raise ConfigError(f"the cap {cap!r} of group {group!r}: give at least 1")

    def ranked(
        self, tasks: Iterable[Task], seconds: Mapping[str, float]
    ) -> list[tuple[int, str, str]]:
        """Return rank, capped group and key of each task; lower ranks begin first.

        `seconds` are those that earlier attempts took. A task without any counts as an average
        one. Raise `ConfigError` for an invalid priority or image.
        """
        usual = sum(seconds.values()) / len(seconds) if seconds else 0.0
        found = []
        for task in tasks:
            self.image_of(task)
            found.append((-self._priority(task), -seconds.get(task.key, usual), task))
        found.sort(key=lambda each: each[:2])
        return [(rank, self._lane(task), task.key) for rank, (_, _, task) in enumerate(found, 1)]

    @property
    def is_plain(self) -> bool:
        """Whether tasks say nothing about their order."""
        return self.priority is None and self.group is None and self.image is None

    def image_of(self, task: Task) -> str | None:
        """Return the image that a task asks for; raise `ConfigError` for what cannot be one."""
        image = _field(task, self.image)
        if image is not None and (not isinstance(image, str) or not image):
            raise ConfigError(f"task {task.key!r}: {self.image} {image!r} is not an image")
        return image

    def _priority(self, task: Task) -> float:
        found = _field(task, self.priority)
        if found is None:
            return 0.0
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise ConfigError(f"task {task.key!r}: {self.priority} {found!r} is not a number")
        return float(found)

    def _lane(self, task: Task) -> str:
        group = _field(task, self.group)
        return group if isinstance(group, str) and group in self.caps else ""


def _field(task: Task, name: str | None) -> Any:
    if name is None:
        return None
    value = task.value
    return value.get(name) if isinstance(value, dict) else None
