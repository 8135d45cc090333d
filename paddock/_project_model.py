"""What may stand in a project file, as pydantic checks it. Imported only when there is one."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["KEYS", "Document", "Sandbox"]

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
VERSION = re.compile(r"\d+\.\d+\.\d+")


def _text(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("give a text that is not empty")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise ValueError(f"give an absolute path in the sandbox, not {value!r}")
    return value


def _version(value: str) -> str:
    if not VERSION.fullmatch(value):
        raise ValueError(f"give a whole version, such as 0.9.5, not {value!r}")
    return value


def _variables(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not VARIABLE.fullmatch(name) or "\0" in text:
            raise ValueError(f"{name!r} is no variable that can be set")
    return value


Text = Annotated[str, AfterValidator(_text)]


class Sandbox(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    image: Text | None = None
    dockerfile: Text | None = None
    snapshot: Text | None = None
    working_dir: Annotated[str, AfterValidator(_absolute)] | None = None
    setup: list[Text] = Field(default=[])
    upload_ignore: list[Text] = Field(default=[])
    upload_gitignore: bool = False
    uv_version: Annotated[str, AfterValidator(_version)] | None = None
    env: Annotated[dict[str, str], AfterValidator(_variables)] = Field(default={})


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sandbox: Sandbox = Sandbox()


KEYS = ("sandbox", *(f"sandbox.{name}" for name in Sandbox.model_fields))
"""Every key there is, dotted."""
