"""``paddock run``: one agent, one sandbox, and a prompt or a conversation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from paddock.cli import options
from paddock.cli.agents import AgentOptions, configure, initial_prompt, read_config
from paddock.cli.conversation import check_new_file, converse
from paddock.cli.databases import with_databases
from paddock.cli.interactive import Chat
from paddock.cli.lines import is_terminal
from paddock.cli.render import PREVIEW_LINES
from paddock.cli.running import run as run_to_end
from paddock.cli.sandbox_options import SandboxOptions
from paddock.cli.sessions import create_saved, list_, locate, open_store, read_saved
from paddock.errors import ConfigError

__all__ = ["run"]

NO_PROMPT = """\
there is no prompt, and this is no conversation at a terminal
  give one, or pipe it in: paddock run "Which tests fail?", paddock run - < task.txt"""


@options.with_option_groups
def run(
    context: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help=f"{options.PROMPT_HELP} Without: a conversation."),
    ] = None,
    *,
    agent_options: AgentOptions,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="An agent's YAML; options take precedence."
        ),
    ] = None,
    attach: options.Attached = None,
    max_turns: options.MaxTurns = None,
    approvals: options.Approvals = "ask",
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", "-r", metavar="ID", help="Resume a session: an id, latest, or a path."
        ),
    ] = None,
    list_sessions: Annotated[
        bool, typer.Option("--list", "-l", help="List earlier sessions and exit.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Also write the answer to a new file."),
    ] = None,
    preview_lines: Annotated[
        int, typer.Option("--preview-lines", min=0, help="Lines of a tool's result to show.")
    ] = PREVIEW_LINES,
    session_dir: options.SessionDir = None,
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Keep the session, to inspect or resume it.")
    ] = True,
    as_json: options.AsJson = False,
    sandbox: SandboxOptions,
) -> None:
    """Give an agent a task, in a fresh sandbox; without one, talk with it.

    What it does is shown as it happens; `--json` prints the trace instead, one
    object a line. The word `run` may be left out before a prompt of several words.

        paddock run "Which tests fail, and why?" --upload .:.

        paddock "Mend them" --profile developer -w . --setup "pip install -e ."

        paddock run -p review.md --var language=Rust -o review.txt

        paddock run --resume latest "Now write a test for it"

        paddock run - --json < task.txt | jq .type
    """
    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.session.session import Session

    if list_sessions:
        list_(session_dir=session_dir, as_json=as_json)
        return
    check_new_file(output)
    secrets = sandbox.secrets()
    found = None if resume is None else locate(resume, session_dir)
    saved = found is not None and config is None
    if saved:
        sandbox = sandbox.unless_from_environment(context)
    base = None
    if config is not None:
        base = read_config(config, agent_options, sandbox)
    elif found is not None:
        base = read_saved(*found, agent_options, sandbox)
    agent_config = configure(base, agent_options, sandbox, saved=saved)
    agent_config = with_databases(agent_config, file=config, saved=saved)
    if prompt is not None:
        text: str | None = options.read_prompt(prompt)
    else:
        text = None if found else initial_prompt(agent_config)
    images = options.read_attached(attach or ())
    if text is None:
        if images:
            raise ConfigError("--attach needs a prompt that the images go with")
        _require_conversation(output, as_json)
        _require_asking(approvals)
    store = found[0] if found else open_store(session_dir)
    agent = Agent(agent_config)
    resumed = store.resume(found[1], agent, secrets=secrets) if found else None
    create = (
        partial(create_saved, store, secrets=secrets) if save else partial(Session, secrets=secrets)
    )
    if text is None:
        chat = Chat(
            agent,
            store,
            session=resumed,
            create=create,
            secrets=secrets,
            approves_all=bool(agent_options.auto_approve),
            max_turns=max_turns,
            preview_lines=preview_lines,
        )
        raise typer.Exit(run_to_end(chat.run(), on_interrupt=chat.interrupt))
    raise typer.Exit(
        run_to_end(
            converse(
                resumed or create(agent),
                [{"type": "text", "text": text}, *images] if images else text,
                approves_all=bool(agent_options.auto_approve),
                approvals=approvals,
                max_turns=max_turns,
                as_json=as_json,
                output=output,
                preview_lines=preview_lines,
            )
        )
    )


def _require_asking(approvals: options.ApprovalWay) -> None:
    if approvals != "ask":
        raise ConfigError(f"--approvals {approvals} needs a prompt: a conversation asks here")


def _require_conversation(output: Path | None, as_json: bool) -> None:
    """Raise unless somebody is there to talk with."""
    if output is not None or as_json or not is_terminal():
        raise ConfigError(NO_PROMPT)
