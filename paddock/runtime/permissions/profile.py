"""What an agent may do: profiles, and which of its calls need a person's approval.

A profile chooses tools and modes; the sandbox is the boundary. Patterns and protected
names bring a person in where a mistake is likely. They do not hold off somebody who
means to get around them. This module runs nothing and touches no sandbox.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from paddock._places import config_directory
from paddock.errors import ConfigError
from paddock.runtime.permissions.paths import parse_path
from paddock.runtime.permissions.protected import protected_reason

__all__ = [
    "DANGEROUS_PATTERNS",
    "DANGEROUS_TOOLS",
    "MCP_MARK",
    "ApprovalMode",
    "CapabilityProfile",
    "DatabaseMode",
    "FileWriteMode",
    "PermissionProfile",
    "ShellFence",
    "ShellMode",
    "load_profile",
]

DANGEROUS_TOOLS: Final = frozenset(
    {"bash", "write", "edit", "oracle", "mysql", "sqlite", "vertica", "postgres", "delegate"}
)
DANGEROUS_PATTERNS: Final = (
    "rm -rf", "rm -fr", "rm -r", "rm -f -r", "rm --recursive", "DROP TABLE", "DROP DATABASE",
    "TRUNCATE", "DELETE FROM", "> /dev/", ":(){ :|:& };:", "mkfs", "dd if=",
)  # fmt: skip

MCP_MARK: Final = "__"
"""Between the name of an MCP server and that of its tool. What such a tool does is unknown here."""

_FILE_TOOLS = frozenset({"read", "write", "edit", "list", "glob", "grep", "read_excel"})
_WRITING_TOOLS = frozenset({"write", "edit"})
_HARMLESS_DEVICES = re.compile(r"> ?/dev/(?:null|stdout|stderr|tty)(?![\w/])")
_WORD_START = re.compile(r"^(?=\w)")  # "rm -r" is not in "farm -r"
_PROFILE_NAME = re.compile(r"\w[\w.-]*")


class ShellMode(enum.StrEnum):
    """Which commands the shell runs: those that only read, or all."""

    RESTRICTED = "restricted"
    UNRESTRICTED = "unrestricted"


class ShellFence(enum.StrEnum):
    """What keeps the commands of a restricted shell from changing things.

    `LANDLOCK` is the sandbox's kernel (see `paddock.sandbox.Fence`); where it cannot, no
    command runs. `ALLOW_LIST` is the list of programs and options alone, which a hostile
    model or repository may get around.
    """

    LANDLOCK = "landlock"
    ALLOW_LIST = "allow-list"


class FileWriteMode(enum.StrEnum):
    """Which files the tools may write: none, new ones, or all."""

    OFF = "off"
    CREATE_ONLY = "create-only"
    FULL = "full"


class DatabaseMode(enum.StrEnum):
    """Whether SQL may change data and tables."""

    READONLY = "readonly"
    MUTATIONS = "mutations"


class ApprovalMode(enum.StrEnum):
    """Which calls need an approval: all, dangerous ones, those of `required_tools`, or none."""

    ALL = "all"
    DANGEROUS = "dangerous"
    GRANULAR = "granular"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionProfile:
    """What one agent may do.

    `shell_fence` and `shell_network` are for the commands of a restricted shell: what
    keeps them from changing things, and whether they may use TCP and UDP under Landlock. Where
    they do not apply they are set to their defaults.
    `shell_timeout` is in seconds, for a command that asks for no other.
    `shell_working_dir` is where commands start if the sandbox has such a directory.
    `required_tools` need approval in every mode but ``none``. With `bash_only` no
    other tool is offered.
    """

    name: str
    description: str = ""
    shell: ShellMode = ShellMode.RESTRICTED
    shell_fence: ShellFence = ShellFence.LANDLOCK
    shell_network: bool = False
    file_write: FileWriteMode = FileWriteMode.OFF
    database: DatabaseMode = DatabaseMode.READONLY
    approval: ApprovalMode = ApprovalMode.DANGEROUS
    required_tools: frozenset[str] = frozenset()
    dangerous_patterns: tuple[str, ...] = DANGEROUS_PATTERNS
    shell_timeout: float = 120.0
    shell_working_dir: str | None = None
    bash_only: bool = False

    def __post_init__(self) -> None:
        """Make the fields what they are declared to be: a mode given as text must not slip by."""
        try:
            object.__setattr__(self, "shell", ShellMode(self.shell))
            object.__setattr__(self, "shell_fence", ShellFence(self.shell_fence))
            object.__setattr__(self, "file_write", FileWriteMode(self.file_write))
            object.__setattr__(self, "database", DatabaseMode(self.database))
            object.__setattr__(self, "approval", ApprovalMode(self.approval))
        except ValueError as error:
            raise ConfigError(f"profile {self.name!r}: {error}") from error
        if self.shell is ShellMode.UNRESTRICTED:
            object.__setattr__(self, "shell_fence", ShellFence.LANDLOCK)
        if self.shell is ShellMode.UNRESTRICTED or self.shell_fence is ShellFence.ALLOW_LIST:
            object.__setattr__(self, "shell_network", False)
        object.__setattr__(self, "required_tools", frozenset(self.required_tools))
        object.__setattr__(self, "dangerous_patterns", tuple(self.dangerous_patterns))

    @classmethod
    def from_dict(
        cls, document: Mapping[str, Any], *, source: str = "profile"
    ) -> PermissionProfile:
        """A profile from its YAML form; raises `ConfigError` that names the key that is wrong."""
        from paddock.runtime.permissions.reader import fields_from_mapping  # pydantic, when needed

        return cls(**fields_from_mapping(dict(document), source=source))

    def to_dict(self) -> dict[str, Any]:
        """The profile in its YAML form; `from_dict` gives an equal profile back."""
        return {
            "profile": self.name,
            "description": self.description,
            "shell": self._shell_to_dict(),
            "file_write": {"mode": self.file_write.value},
            "database": {"mode": self.database.value},
            "approval": {
                "mode": self.approval.value,
                "required_tools": sorted(self.required_tools),
                "dangerous_patterns": list(self.dangerous_patterns),
            },
            "shell_timeout": self.shell_timeout,
            "shell_working_dir": self.shell_working_dir,
            "bash_only": self.bash_only,
        }

    def _shell_to_dict(self) -> dict[str, Any]:
        if self.shell is ShellMode.UNRESTRICTED:
            return {"mode": self.shell.value}
        section = {"mode": self.shell.value, "fence": self.shell_fence.value}
        if self.shell_fence is ShellFence.ALLOW_LIST:
            return section
        return section | {"network": self.shell_network}

    def requires_approval(self, tool_name: str, arguments: Mapping[str, Any]) -> bool:
        """Whether a person has to approve this call.

        ``all`` asks for every call and ``none`` for no call. ``granular`` asks for
        `required_tools`, for a dangerous pattern in the arguments, and for a write
        to a protected file. ``dangerous`` asks for these, for `DANGEROUS_TOOLS` and for tools of
        MCP servers.
        """
        if self.approval is ApprovalMode.NONE:
            return False
        if self.approval is ApprovalMode.ALL or tool_name in self.required_tools:
            return True
        is_dangerous = tool_name in DANGEROUS_TOOLS or MCP_MARK in tool_name
        if self.approval is ApprovalMode.DANGEROUS and is_dangerous:
            return True
        if tool_name in _FILE_TOOLS:  # their text is data; only where it goes matters
            return tool_name in _WRITING_TOOLS and _writes_protected(arguments)
        return self.dangerous_pattern(arguments) is not None

    @property
    def changes_nothing(self) -> bool:
        """Whether none of the tools that it gives is one to change files or databases by."""
        return (
            self.shell is ShellMode.RESTRICTED
            and self.file_write is FileWriteMode.OFF
            and self.database is DatabaseMode.READONLY
        )

    def dangerous_pattern(self, arguments: Mapping[str, Any]) -> str | None:
        """The first of `dangerous_patterns` that occurs in the arguments' text, or None.

        Case and the amount of white space do not matter; a pattern begins where a word does.
        """
        texts = [_HARMLESS_DEVICES.sub("", _folded(text)) for text in _texts(arguments)]
        for pattern in self.dangerous_patterns:
            sought = _WORD_START.sub(r"\\b", re.escape(_folded(pattern)))
            if any(re.search(sought, text) for text in texts):
                return pattern
        return None


CapabilityProfile = PermissionProfile

_UNRESTRICTED: Final = PermissionProfile(
    name="unrestricted",
    description="Everything is allowed and nothing is asked; for evaluations in a sandbox.",
    shell=ShellMode.UNRESTRICTED,
    file_write=FileWriteMode.FULL,
    database=DatabaseMode.MUTATIONS,
    approval=ApprovalMode.NONE,
    shell_working_dir="/app",
)
_BUILT_IN: Final[Mapping[str, PermissionProfile]] = {
    "readonly": PermissionProfile(
        name="readonly",
        description="Looks at files and runs commands that only read.",
    ),
    "developer": PermissionProfile(
        name="developer",
        description="Runs any command and edits files; databases are read only.",
        shell=ShellMode.UNRESTRICTED,
        file_write=FileWriteMode.FULL,
        approval=ApprovalMode.GRANULAR,
        required_tools=frozenset({"oracle", "mysql"}),
        shell_timeout=300.0,
    ),
    "unrestricted": _UNRESTRICTED,
    "eval": _UNRESTRICTED,
}


def load_profile(profile: str | Path | PermissionProfile | None = None) -> PermissionProfile:
    """The profile that `profile` names; None is ``readonly``, an object is returned as it is.

    A name is looked up among the built-in profiles, as the path of an existing YAML
    file, in the user's configuration directory (``paddock/profiles/NAME.yaml``), and
    among the packaged files. Raises `ConfigError` if there is none, or if its file is
    not valid.
    """
    if isinstance(profile, PermissionProfile):
        return profile
    name = "readonly" if profile is None else str(profile)
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if (path := Path(name).expanduser()).is_file():
        return _read(path.read_bytes(), source=str(path))
    packaged = resources.files("paddock.runtime.permissions")
    if _PROFILE_NAME.fullmatch(name):
        for place in (_user_profiles(), packaged):
            if (file := place / f"{name}.yaml").is_file():
                return _read(file.read_bytes(), source=str(file))
    files = sorted(file.name for file in packaged.iterdir() if file.name.endswith(".yaml"))
    known = [*_BUILT_IN, *(file.removesuffix(".yaml") for file in files)]
    raise ConfigError(f"Unknown profile: {name} (built in: {', '.join(known)})")


def _user_profiles() -> Path:
    return config_directory() / "profiles"


def _read(data: bytes, *, source: str) -> PermissionProfile:
    from paddock.runtime.permissions.reader import fields_from_yaml  # pydantic, when needed

    return PermissionProfile(**fields_from_yaml(data, source=source))


def _writes_protected(arguments: Mapping[str, Any]) -> bool:
    path = arguments.get("path")
    return isinstance(path, str) and protected_reason(parse_path(path)) is not None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _folded(text: str) -> str:
    return " ".join(text.split()).replace(">/dev/", "> /dev/").casefold()
