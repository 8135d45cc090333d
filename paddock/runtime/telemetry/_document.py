"""What may stand in an observability file, as pydantic checks it. Imported only to read one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["KEYS", "Document"]


def _text(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("give a text that is not empty")
    return value


Text = Annotated[str, AfterValidator(_text)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Tenant(_Section):
    team_id: Text | None = None
    project_id: Text | None = None


class _Sqlite(_Section):
    path: Text | None = None


class _Otlp(_Section):
    endpoint: Text | None = None
    insecure: bool = True
    headers: dict[str, str] = Field(default={})
    set_global: bool = False


class _Backend(_Section):
    type: Literal["sqlite", "otlp"] = "sqlite"
    sqlite: _Sqlite = _Sqlite()
    otlp: _Otlp = _Otlp()


class _Capture(_Section):
    traces: bool = True
    metrics: bool = True
    tool_arguments: bool = True
    tool_results: bool = False


class Document(_Section):
    enabled: bool = True
    tenant: _Tenant = _Tenant()
    backend: _Backend = _Backend()
    capture: _Capture = _Capture()


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        found.append(prefix + name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _keys(kind, f"{prefix}{name}.")
    return found


KEYS = tuple(_keys(Document))
"""Every key there is, dotted."""
