"""What agent a command is about: its options, over an agent's file or a saved session.

An option goes before what a file says. Knows no terminal.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paddock.cli import options
from paddock.cli.recipes import make_trusted_backend, vary_backend
from paddock.cli.trusting import require_trust
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.backends.base import Backend
    from paddock.cli.sandbox_options import SandboxOptions
    from paddock.runtime.agents.config import AgentConfig
    from paddock.runtime.permissions.profile import PermissionProfile

__all__ = ["AgentOptions", "configure", "initial_prompt", "read_config"]


ON_A_COMMAND_LINE: Mapping[str, Any] = {"auto_approve": False}
"""What an agent is where nothing else is said: somebody may be there to ask."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """The options of an agent, as they were given. `prompt_file` and `system_prompt` exclude
    each other; `variables` are ``NAME=VALUE`` and go before those of `vars_file`, and
    `model_options` are ``NAME=VALUE``, the value in YAML. `price` is that of the model."""

    model: options.Model = None
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            help="readonly, developer, developer-bash-only, unrestricted, or a YAML file.",
        ),
    ] = None
    shell_mode: Annotated[
        str | None,
        typer.Option(
            "--shell-mode", help="restricted (fenced) or unrestricted, over the profile's."
        ),
    ] = None
    system_prompt: Annotated[
        str | None,
        typer.Option(
            "--system-prompt",
            "-s",
            help="Text, or a prompt file (.md); --var fills in its variables.",
        ),
    ] = None
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompt",
            "-p",
            metavar="FILE",
            help="A prompt file (.md) with the system prompt; --var fills in its variables.",
        ),
    ] = None
    variables: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="NAME=VALUE", help="For the prompt file. Repeatable."),
    ] = None
    vars_file: Annotated[
        Path | None,
        typer.Option("--vars-file", metavar="FILE", help="The same, in a YAML or JSON file."),
    ] = None
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url", help="The URL of the model's service, if it is not the usual one."
        ),
    ] = None
    reasoning_effort: Annotated[
        str | None,
        typer.Option("--reasoning-effort", help="How long the model thinks: low, medium, high."),
    ] = None
    context_window: Annotated[
        int | None,
        typer.Option(
            "--context-window",
            min=1,
            metavar="TOKENS",
            help="The size of the model's context, for a model that is not known.",
        ),
    ] = None
    model_options: Annotated[
        list[str] | None,
        typer.Option(
            "--model-option",
            metavar="NAME=VALUE",
            help="A parameter of the model: temperature, top_p, max_tokens, seed, stop, "
            "tool_choice, parallel_tool_calls, timeout, idle_timeout, extra_body, "
            "extra_headers. Repeatable.",
        ),
    ] = None
    price: Annotated[
        str | None,
        typer.Option(
            "--price",
            metavar="INPUT,OUTPUT",
            help="What the model costs, in US dollars for a million tokens; after them may come "
            "the prices of cached input and of writing to the cache.",
        ),
    ] = None
    auto_approve: options.AutoApprove = None

    @property
    def overridden(self) -> set[str]:
        """The keys of an agent's file that these options decide instead."""
        pairs = {
            "model": self.model,
            "profile": self.profile,
            "base_url": self.base_url,
            "system_prompt": self.system_prompt or self.prompt_file,
            "auto_approve": self.auto_approve is not None,
            "prices": self.price,
        }
        named = {text.partition("=")[0] for text in self.model_options or ()}
        return {key for key, given in pairs.items() if given} | named


def read_config(
    path: Path, agent: AgentOptions, sandbox: SandboxOptions, *, data: bytes | None = None
) -> AgentConfig:
    """The agent's file at `path`, which the user trusts as far as it needs that; `data` are its
    contents if they were read already.

    Raises as `AgentConfig.from_file` and `require_trust`, and `ConfigError` for what would be
    found out later, when the file's name is forgotten.
    """
    from paddock.runtime.agents.config import AgentConfig
    from paddock.runtime.agents.config_file import read_file
    from paddock.runtime.core.response_format import answer_format
    from paddock.runtime.models import PROVIDERS
    from paddock.runtime.tools.sql.config import parse_databases

    data = read_file(path) if data is None else data
    config = AgentConfig.from_yaml(data, source=str(path), **ON_A_COMMAND_LINE)
    if config.provider not in (None, *PROVIDERS):
        known = ", ".join(PROVIDERS)
        raise ConfigError(f"{path}: provider {config.provider!r} is not one of {known}")
    try:
        answer_format(config.response_format)
        parse_databases(config.databases)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    require_trust(
        path,
        data,
        config,
        overridden=agent.overridden | sandbox.overridden,
        isolation=sandbox.isolation,
        trust=sandbox.trust,
    )
    return config


def configure(
    base: AgentConfig | None, agent: AgentOptions, sandbox: SandboxOptions, *, saved: bool = False
) -> AgentConfig:
    """The agent of the options over `base`, in whose recipe paths of this machine are whole:
    its session may be resumed elsewhere.

    The recipe of an agent's file, or one that was `saved` with a session, is changed by the
    options, or replaced by naming a backend.

    Raises `ConfigError`, `typer.BadParameter` and `Unsupported`; a file that is missing is
    a `FileNotFoundError`.
    """
    from paddock.runtime.agents.config import AgentConfig

    if base is None:
        base = AgentConfig(**ON_A_COMMAND_LINE)
    if sandbox.working_dir:
        base = dataclasses.replace(base, working_dir=None)
    recipe = _anchored(_recipe(base, sandbox, saved=saved))
    return dataclasses.replace(
        base,
        backend=recipe,
        working_dir=_place(recipe, base.working_dir),
        **_changes(base, agent),
    )


def initial_prompt(config: AgentConfig) -> str | None:
    """What the prompt file of `config` begins with, if it has one that says so."""
    from paddock.runtime.agents.prompts import read_prompt

    named = config.system_prompt or ""
    if not named.endswith(".md") or "\n" in named:
        return None
    return read_prompt(Path(named).expanduser()).initial_prompt


def _changes(base: AgentConfig, agent: AgentOptions) -> dict[str, Any]:
    """The fields that the options change."""
    given = {
        "auto_approve": False if agent.auto_approve is False else None,
        "model": agent.model,
        "system_prompt": _system_prompt(agent),
        "base_url": agent.base_url,
        "reasoning_effort": agent.reasoning_effort,
        "context_window": agent.context_window,
        "profile": _profile(base, agent),
        "vars": _variables(base, agent) or None,
        **_model_options(agent.model_options or ()),
    }
    if agent.price is not None:
        given["prices"] = {agent.model or base.model: _price(agent.price)}
    return {name: value for name, value in given.items() if value is not None}


def _model_options(texts: Sequence[str]) -> dict[str, Any]:
    """Options of the model, each ``NAME=VALUE``."""
    import yaml

    from paddock.runtime.agents.model_options import OPTION_TYPES

    given: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in OPTION_TYPES or not value:
            known = ", ".join(OPTION_TYPES)
            raise ConfigError(f"--model-option {text!r}: give NAME=VALUE, NAME one of {known}")
        try:
            given[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--model-option {text!r}: {error}") from error
    return given


def _price(text: str) -> dict[str, float]:
    """``INPUT,OUTPUT[,CACHED[,WRITE]]`` in US dollars for a million tokens."""
    names = ("input", "output", "cached_input", "cache_write")
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not 2 <= len(numbers) <= len(names):
        raise ConfigError(f"--price {text!r}: give INPUT,OUTPUT[,CACHED[,WRITE]] in US dollars")
    return dict(zip(names, numbers, strict=False))


def _system_prompt(agent: AgentOptions) -> str | None:
    path = agent.prompt_file
    if path is None:
        return agent.system_prompt
    if agent.system_prompt is not None:
        raise typer.BadParameter("give one of --prompt and --system-prompt")
    if path.suffix != ".md":
        raise ConfigError(f"{path}: the name of a prompt file ends in .md")
    if not path.is_file():
        raise FileNotFoundError(2, "no such prompt file", str(path))
    return str(path)


def _profile(base: AgentConfig, agent: AgentOptions) -> str | PermissionProfile | None:
    if agent.shell_mode is None:
        return agent.profile
    from paddock.runtime.permissions.profile import ShellMode, load_profile

    modes = [mode.value for mode in ShellMode]
    if agent.shell_mode not in modes:
        raise ConfigError(f"--shell-mode {agent.shell_mode!r} is not one of {', '.join(modes)}")
    profile = load_profile(agent.profile or base.profile)
    return dataclasses.replace(profile, shell=ShellMode(agent.shell_mode))


def _variables(base: AgentConfig, agent: AgentOptions) -> dict[str, str]:
    given = dict(options.parse_value(text) for text in agent.variables or ())
    return {**base.vars, **_read_variables(agent.vars_file), **given}


def _read_variables(path: Path | None) -> dict[str, Any]:
    """The mapping in a YAML or JSON file, its scalars as they are written."""
    from paddock.runtime.core.yamltext import read_text, read_yaml

    if path is None:
        return {}
    document = read_yaml(read_text(path), source=str(path), texts=[("*",)])
    if not isinstance(document.data, dict):
        raise ConfigError(f"{path}: give a mapping of variables to their values")
    for name, value in document.data.items():
        if not isinstance(value, str):
            place = f"{path}, line {document.lines[name]}: {name}"
            raise ConfigError(f"{place} has to be text, not {type(value).__name__}")
    return document.data


def _recipe(base: AgentConfig, sandbox: SandboxOptions, *, saved: bool) -> Backend:
    if sandbox.backend is None and not isinstance(base.backend, str):
        return vary_backend(base.backend, sandbox)
    # What a sandbox begins with may imply a backend, and goes before the one of the file.
    begun = sandbox.dockerfile or sandbox.snapshot
    named = base.backend if isinstance(base.backend, str) and not begun else None
    name = sandbox.backend or named
    if saved and name == named:
        _require_known(name)
    place = sandbox.working_dir or base.working_dir
    return make_trusted_backend(dataclasses.replace(sandbox, backend=name, working_dir=place))


def _require_known(name: str | None) -> None:
    """Raise `ConfigError` for the placeholder of a recipe that could not be saved."""
    from paddock.backends.base import backend_names

    if name is not None and name not in backend_names():
        raise ConfigError(
            f"what made the session's sandbox could not be saved with it: {name}; describe one "
            "with --backend"
        )


def _anchored(recipe: Backend) -> Backend:
    """`recipe`, whose paths of this machine do not depend on the current directory."""
    uploads = [(str(Path(here).absolute()), there) for here, there in recipe.uploads]
    place = _place(recipe, recipe.working_dir)
    return dataclasses.replace(recipe, uploads=uploads, working_dir=place)


def _place(recipe: Backend, working_dir: str | None) -> str | None:
    """`working_dir`, whole where it is one of this machine."""
    if working_dir is None or recipe.default_working_dir is not None:
        return working_dir
    return str(Path(working_dir).absolute())
