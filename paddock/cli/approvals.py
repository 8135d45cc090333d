"""``paddock approvals``: the calls that wait for somebody, and answering them, from any process.

They are in the directories of the sessions, in a file that a program keeps them in, or in the
store of a multi-agent runtime.
"""

from __future__ import annotations

import contextlib
import getpass
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from paddock.cli import options
from paddock.cli.running import run
from paddock.cli.steering import existing_store
from paddock.cli.tables import local_minute, table_console
from paddock.cli.text import one_line, plain
from paddock.errors import ConfigError, SessionError
from paddock.runtime.core.approval import Decision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from paddock.runtime.core.approval import Approval, ApprovalOutcome, ApprovalStore
    from paddock.runtime.orchestration.stores.base import RuntimeStore

__all__ = ["approvals"]

_RESUME = "runtime.query(None, thread_id, resume=run), or a runtime that serves approvals"

approvals = typer.Typer(
    no_args_is_help=True,
    help="List, look at and answer calls that wait for an approval, from any process.",
    epilog="A call waits where `paddock run --approvals wait` or `later` met it, or a program "
    "whose session has no user to ask. With `wait` the run continues when it is answered, and "
    "else by `paddock sessions resume ID`.",
)

ApprovalId = Annotated[
    str, typer.Argument(metavar="ID", help="An approval's id, or the beginning of one.")
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="FILE",
        help="The file of a SqliteApprovalStore or of a multi-agent runtime's store (also as "
        "sqlite:FILE, or the URL of another one), instead of the sessions' directories.",
    ),
]
Status = Annotated[
    Literal["pending", "answered", "expired", "withdrawn", "all"],
    typer.Option("--status", help="Only approvals in this state."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A store of approvals, and the session whose directory that is, or the tenant whose runtime
    asks."""

    store: ApprovalStore
    session: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An approval, and where it is kept."""

    approval: Approval
    place: _Place

    @property
    def id(self) -> str:
        return self.approval.request.id


@approvals.command(name="list")
def list_(
    session: Annotated[
        str, typer.Option("--session", metavar="ID", help="Only approvals of this session.")
    ] = "",
    status: Status = "pending",
    session_dir: options.SessionDir = None,
    store: Store = None,
    as_json: options.AsJson = False,
) -> None:
    """List approvals, oldest first: those that wait, unless told otherwise.

    paddock approvals list

    paddock approvals list --status all --session 3f2a

    paddock approvals list --store runs.db --json

    paddock approvals list --store sqlite:team.db
    """
    found = run(_list(session_dir, store))
    found = [each for each in found if each.approval.request.session_id.startswith(session)]
    if status != "all":
        found = [each for each in found if each.approval.status == status]
    if as_json:
        print(json.dumps([_data(each) for each in found], indent=2))
    elif found:
        table_console().print(_table(found))
    else:
        what = "No approvals" if status == "all" else f"No approval is {status}"
        typer.echo(f"{what}. --status all shows those of every status.", err=True)


@approvals.command()
def show(
    approval: ApprovalId,
    session_dir: options.SessionDir = None,
    store: Store = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what is to be approved, whole: the tool, its arguments, and the agent.

    paddock approvals show 8c1f
    """
    found = run(_show(session_dir, store, approval))
    if as_json:
        print(json.dumps(_data(found), indent=2))
    else:
        for line in _described(found):
            print(plain(line))


@approvals.command()
def answer(
    approval: ApprovalId,
    approve: Annotated[bool, typer.Option("--approve", help="Let the call run.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Refuse it.")] = False,
    revise: Annotated[
        str | None,
        typer.Option(
            "--revise",
            metavar="FILE",
            help="Let it run with other arguments: a JSON or YAML file (- is stdin) with those "
            "that change. They must fit the tool.",
        ),
    ] = None,
    feedback: Annotated[
        str | None, typer.Option("--feedback", metavar="TEXT", help="A comment for the model.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="NAME",
            help="The name to record with the answer. Default: your user name.",
        ),
    ] = None,
    session_dir: options.SessionDir = None,
    store: Store = None,
    as_json: options.AsJson = False,
) -> None:
    """Answer a call that waits. Of several answers the first one counts.

    paddock approvals answer 8c1f --approve

    paddock approvals answer 8c1f --reject --feedback "Not on a Friday."

    echo '{"where": "staging"}' | paddock approvals answer 8c1f --revise -
    """
    outcome = _outcome(approve, reject, revise)
    decision = Decision(
        outcome=outcome,
        feedback=feedback,
        partial=None if revise is None else _partial(revise),
        by=by or _own_name(),
    )
    found = run(_answer(session_dir, store, approval, decision))
    if as_json:
        print(json.dumps(_data(found), indent=2))
        return
    request = found.approval.request
    print(f"{outcome}: {_call(found.approval, 80)}")
    place = found.place
    if place.tenant is not None:
        typer.echo(f"continue run {request.session_id} with: {_RESUME}", err=True)
    if place.session is not None and not _runs(existing_store(session_dir).base_dir, place.session):
        typer.echo(f"continue with: paddock sessions resume {request.session_id}", err=True)


async def _list(session_dir: Path | None, where: str | None) -> list[_Found]:
    async with _opened(session_dir, where) as places:
        return await _find(places)


async def _show(session_dir: Path | None, where: str | None, prefix: str) -> _Found:
    async with _opened(session_dir, where) as places:
        return await _one(places, prefix)


async def _answer(
    session_dir: Path | None, where: str | None, prefix: str, decision: Decision
) -> _Found:
    async with _opened(session_dir, where) as places:
        found = await _one(places, prefix)
        if found.place.tenant is not None and decision.partial is not None:
            from paddock.runtime.orchestration.approvals import NO_PARTIAL, runs_as_asked

            if runs_as_asked(found.approval.request):
                raise ConfigError(f"--revise: {NO_PARTIAL}")
        return replace(found, approval=await found.place.store.resolve(found.id, decision))


async def _one(places: Sequence[_Place], prefix: str) -> _Found:
    """The approval of this id, or the only one whose id begins so."""
    found = await _find(places)
    matches = [each for each in found if each.id == prefix]
    matches = matches or [each for each in found if prefix and each.id.startswith(prefix)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise SessionError(f"{prefix} may be any of:{_lines(matches)}")
    waiting = [each for each in found if each.approval.status == "pending"]
    if not waiting:
        raise SessionError(f"no approval {prefix!r}: none waits here")
    raise SessionError(f"no approval {prefix!r}; those that wait are:{_lines(waiting)}")


async def _find(places: Sequence[_Place]) -> list[_Found]:
    """All approvals, oldest first. A session whose approvals cannot be read is reported, and
    left out."""
    found: list[_Found] = []
    for place in places:
        try:
            known = await place.store.list()
        except SessionError as error:
            if place.session is None:
                raise
            typer.echo(f"paddock: session {place.session}: {plain(str(error))}", err=True)
            continue
        found += [_Found(approval=each, place=place) for each in known]
    return sorted(found, key=lambda each: each.approval.request.asked_at)


@contextlib.asynccontextmanager
async def _opened(session_dir: Path | None, where: str | None) -> AsyncIterator[Sequence[_Place]]:
    """Yield the stores of the sessions, or that at `where`, which is closed afterwards."""
    if where is None:
        yield _of_sessions(session_dir)
        return
    from paddock.runtime.orchestration.store import TenantStore
    from paddock.runtime.orchestration.stores.base import RuntimeStore

    store = _store_at(where)
    if not isinstance(store, RuntimeStore):
        yield [_Place(store=store)]
        return
    async with contextlib.aclosing(store):
        yield [
            _Place(store=TenantStore(store, tenant).approvals, tenant=tenant)
            for tenant in store.tenants()
        ]


def _store_at(where: str) -> RuntimeStore | ApprovalStore:
    from paddock.runtime.approvals.sqlite_store import SqliteApprovalStore
    from paddock.runtime.orchestration.store import open_store
    from paddock.runtime.orchestration.stores.sqlite import is_runtime_store

    if "://" in where:
        return open_store(where)
    file = Path(where.removeprefix("sqlite:")).expanduser()
    if not file.is_file():
        raise ConfigError(f"--store {file}: there is no such file")
    return open_store(f"sqlite:{file}") if is_runtime_store(file) else SqliteApprovalStore(file)


def _of_sessions(session_dir: Path | None) -> Sequence[_Place]:
    from paddock._directory import PrivateDirectory
    from paddock.runtime.approvals.directory_store import DirectoryApprovalStore

    base = existing_store(session_dir).base_dir
    try:
        names = sorted(PrivateDirectory(base, shared=True).directories())
    except FileNotFoundError:
        return []
    return [_Place(store=DirectoryApprovalStore(base / name), session=name) for name in names]


def _outcome(approve: bool, reject: bool, revise: str | None) -> ApprovalOutcome:
    given: list[ApprovalOutcome] = []
    given += ["approve"] if approve else []
    given += ["reject"] if reject else []
    given += [] if revise is None else ["revise"]
    if len(given) != 1:
        raise ConfigError("give one of --approve, --reject and --revise FILE")
    return given[0]


def _partial(name: str) -> dict[str, Any]:
    """The arguments in a file of JSON or YAML."""
    from paddock.runtime.core.yamltext import MAX_BYTES, decode, read_yaml

    source = "stdin" if name == "-" else name
    with open(0 if name == "-" else name, "rb", closefd=name != "-") as file:
        data = file.read(MAX_BYTES + 1)
    given = read_yaml(decode(data, source=source), source=source).data
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{source}: give a mapping of the arguments that change")
    return given


def _own_name() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user that the system has no name for
        return None


def _runs(base: Path, session: str) -> bool:
    from paddock.runtime.conversation.directory import SessionDirectory

    return SessionDirectory(base / session).locked()


def _data(found: _Found) -> dict[str, Any]:
    from paddock.runtime.approvals.records import approval_to

    tenant = {} if found.place.tenant is None else {"tenant": found.place.tenant}
    return {"status": found.approval.status, **tenant, **approval_to(found.approval)}


def _call(approval: Approval, width: int) -> str:
    request = approval.request
    arguments = json.dumps(request.args, ensure_ascii=False, default=str)
    return one_line(f"{request.tool} {arguments}", width)


def _lines(found: Sequence[_Found]) -> str:
    return "".join(
        f"\n  {each.id}  session {one_line(each.approval.request.session_id, 40)}  "
        f"{_call(each.approval, 60)}"
        for each in found
    )


def _table(found: Sequence[_Found]) -> Table:
    table = Table("id", "session", "agent", "call", "asked", "status", box=None)
    for each in found:
        request = each.approval.request
        cells = (
            each.id,
            request.session_id,
            "/".join(request.agent_path),
            _call(each.approval, 60),
            local_minute(request.asked_at),
            _status(each.approval),
        )
        table.add_row(*(Text(one_line(cell, 60)) for cell in cells))
    return table


def _status(approval: Approval) -> str:
    return approval.status if approval.decision is None else approval.decision.outcome


def _described(found: _Found) -> list[str]:
    approval = found.approval
    request, decision = approval.request, approval.decision
    whose = f"session   {request.session_id}, run {request.run_id}"
    if found.place.tenant is not None:
        whose = f"run       {request.session_id} of tenant {found.place.tenant}"
    lines = [
        f"approval  {request.id}: {_status(approval)}",
        whose,
        f"asked     {request.asked_at.astimezone():%F %T %z}",
    ]
    if request.agent_path:
        lines.append(f"agent     {'/'.join(request.agent_path)}")
    if request.expires_at is not None:
        lines.append(f"expires   {request.expires_at.astimezone():%F %T %z}")
    if decision is not None:
        lines.append(f"answered  {approval.decided_at:%F %T} UTC by {decision.by or 'somebody'}")
        lines += [f"feedback  {decision.feedback}"] if decision.feedback else []
    lines.append(f"tool      {request.tool}")
    lines.append(json.dumps(request.args, indent=2, ensure_ascii=False, default=str))
    if decision is not None and decision.partial is not None:
        lines.append("revised   " + json.dumps(decision.partial, indent=2, ensure_ascii=False))
    return lines
