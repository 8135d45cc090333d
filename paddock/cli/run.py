"""``paddock run``: one prompt, one agent, one sandbox."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paddock.cli import options
from paddock.cli.conversation import converse
from paddock.cli.recipes import make_backend
from paddock.cli.running import run as run_to_end

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.runtime.config import AgentConfig
    from paddock.runtime.session import Session

__all__ = ["run"]


def run(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help=options.PROMPT_HELP)],
    model: options.Model = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", "-p", help="readonly, developer, unrestricted, or a YAML file."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="An agent's YAML; options win over it."
        ),
    ] = None,
    system_prompt: Annotated[
        str | None, typer.Option("--system-prompt", "-s", help="Text, or a prompt file (.md).")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Where the model is served, if elsewhere.")
    ] = None,
    max_turns: options.MaxTurns = None,
    auto_approve: options.AutoApprove = False,
    session_dir: options.SessionDir = None,
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Keep the session, to look at or resume.")
    ] = True,
    as_json: options.AsJson = False,
    backend: options.BackendName = None,
    image: options.Image = None,
    dockerfile: options.Dockerfile = None,
    snapshot: options.Snapshot = None,
    upload: options.Upload = None,
    setup: options.Setup = None,
    env: options.Env = None,
    working_dir: options.WorkingDir = None,
    isolation: options.Isolation = None,
    project: options.ProjectFile = True,
) -> None:
    """Give an agent a task, in a fresh sandbox.

    What it does is shown as it happens; `--json` prints the trace instead, one
    object a line.

        paddock run "Which tests fail, and why?" --upload .:.

        paddock run "Mend them" -p developer -w . --setup "pip install -e ."

        paddock run - --json < task.txt | jq .type
    """
    text = options.read_prompt(prompt)
    given = {
        "model": model,
        "profile": profile,
        "system_prompt": system_prompt,
        "base_url": base_url,
    }
    base = _read(config, working_dir)
    asked: dict[str, Any] = {
        "image": image,
        "dockerfile": dockerfile,
        "snapshot": snapshot,
        "upload": upload,
        "setup": setup,
        "env": env,
        "isolation": isolation,
    }
    if base is not None and backend is None and not isinstance(base.backend, str):
        recipe = _recipe_of_file(base.backend, asked, working_dir)
    else:
        recipe = make_backend(
            backend or _backend_name(base, begun=bool(dockerfile or snapshot)),
            **asked,
            working_dir=working_dir or (base.working_dir if base else None),
            project=options.project_file(project),
        )
    agent_config = _configure(base, recipe, given, auto_approve)
    session = _open(agent_config, session_dir, save)
    raise typer.Exit(run_to_end(converse(session, text, max_turns=max_turns, as_json=as_json)))


def _read(path: Path | None, working_dir: str | None) -> AgentConfig | None:
    """The agent's file, if one is given; a `working_dir` that is asked for replaces its own."""
    from paddock.runtime.config import AgentConfig

    if path is None:
        return None
    base = AgentConfig.from_file(path)
    return dataclasses.replace(base, working_dir=None) if working_dir else base


def _backend_name(base: AgentConfig | None, *, begun: bool) -> str | None:
    """The backend that the agent's file names, unless what a sandbox begins with implies one."""
    return base.backend if base and isinstance(base.backend, str) and not begun else None


def _recipe_of_file(recipe: Backend, asked: dict[str, Any], working_dir: str | None) -> Backend:
    """The recipe that an agent's file holds, whole: no option and no project adds to it."""
    for name, value in asked.items():
        if value:
            raise typer.BadParameter(
                f"the agent's file has a recipe of its own, which --{name} would not change; "
                "change it there, or replace it with --backend"
            )
    return dataclasses.replace(recipe, working_dir=working_dir) if working_dir else recipe


def _configure(
    base: AgentConfig | None, backend: Backend, given: dict[str, Any], auto_approve: bool
) -> AgentConfig:
    from paddock.runtime.config import AgentConfig

    changes = {name: value for name, value in given.items() if value is not None}
    if base is None:
        return AgentConfig(backend=backend, auto_approve=auto_approve, **changes)
    approved = auto_approve or base.auto_approve
    return dataclasses.replace(base, backend=backend, auto_approve=approved, **changes)


def _open(config: AgentConfig, directory: Path | None, save: bool) -> Session:
    from paddock.runtime.agent import Agent
    from paddock.runtime.session import Session
    from paddock.runtime.store import SessionStore

    agent = Agent(config)
    if not save:
        return Session(agent)
    store = SessionStore() if directory is None else SessionStore(directory)
    return store.create_session(agent)
