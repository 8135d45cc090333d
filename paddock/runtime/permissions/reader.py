"""A profile's YAML form, checked where it enters.

Gives plain fields back; what they mean is the business of `paddock.runtime.permissions.profile`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from paddock.errors import ConfigError
from paddock.runtime.core.yamltext import decode, read_yaml

__all__ = ["fields_from_mapping", "fields_from_yaml"]

MAX_PROFILE_BYTES = 64 * 1024
"""Far above any real profile; a bound on what a mistaken path can cost."""


def _as_mapping(value: object) -> object:
    """Other readers of YAML give False for `off`, and a bare value stands for its `mode`."""
    if value is False:
        value = "off"
    return value if isinstance(value, dict) else {"mode": value}


def _off_as_text(value: object) -> object:
    return "off" if value is False else value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Shell(_Section):
    mode: Literal["restricted", "unrestricted"] = "restricted"
    fence: Literal["landlock", "allow-list"] | None = None
    network: bool | None = None

    @model_validator(mode="after")
    def _only_where_it_applies(self) -> Self:
        """A fence that is asked for and not made would be worse than none."""
        if self.mode == "unrestricted" and (self.fence is not None or self.network is not None):
            raise ValueError("fence and network apply to a restricted shell only")
        if self.fence == "allow-list" and self.network is not None:
            raise ValueError("network needs 'fence: landlock'; an allow-list does not control it")
        return self


class _FileWrite(_Section):
    mode: Annotated[Literal["off", "create-only", "full"], BeforeValidator(_off_as_text)] = "off"


class _Database(_Section):
    mode: Literal["readonly", "mutations"] = "readonly"


class _Approval(_Section):
    mode: Literal["all", "dangerous", "granular", "none"] = "dangerous"
    required_tools: frozenset[str] = frozenset()
    dangerous_patterns: tuple[Annotated[str, Field(pattern=r"\S")], ...] | None = None


class _File(_Section):
    name: str = Field(min_length=1, validation_alias=AliasChoices("profile", "name"))
    description: str = ""
    shell: Annotated[_Shell, BeforeValidator(_as_mapping)] = _Shell()
    file_write: Annotated[_FileWrite, BeforeValidator(_as_mapping)] = _FileWrite()
    database: Annotated[_Database, BeforeValidator(_as_mapping)] = _Database()
    approval: Annotated[_Approval, BeforeValidator(_as_mapping)] = _Approval()
    shell_timeout: float = Field(default=120, gt=0, allow_inf_nan=False)
    shell_working_dir: str | None = None
    bash_only: bool = False


def fields_from_yaml(data: bytes, *, source: str) -> dict[str, Any]:
    """The fields of the profile in `data`; `source` names it in a `ConfigError`."""
    if len(data) > MAX_PROFILE_BYTES:
        raise ConfigError(f"{source}: a profile cannot be larger than {MAX_PROFILE_BYTES} bytes")
    document = read_yaml(decode(data, source=source), source=source).data
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: a profile must be a YAML mapping")
    return fields_from_mapping(document, source=source)


def fields_from_mapping(document: dict[str, Any], *, source: str) -> dict[str, Any]:
    """The fields of a profile in its nested form; `ConfigError` names the key that is wrong."""
    try:
        file = _File.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_first_problem(error)}") from error
    fields: dict[str, Any] = {
        "name": file.name,
        "description": file.description,
        "shell": file.shell.mode,
        "shell_fence": file.shell.fence or "landlock",
        "shell_network": bool(file.shell.network),
        "file_write": file.file_write.mode,
        "database": file.database.mode,
        "approval": file.approval.mode,
        "required_tools": file.approval.required_tools,
        "shell_timeout": file.shell_timeout,
        "shell_working_dir": file.shell_working_dir,
        "bash_only": file.bash_only,
    }
    if file.approval.dangerous_patterns is not None:
        fields["dangerous_patterns"] = file.approval.dangerous_patterns
    return fields


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    return f"{key!r}: {problem['msg'].removeprefix('Value error, ')}"
