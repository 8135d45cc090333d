"""What the installed SDK holds to be Daytona's wire: routes, queries, bodies, answers.

The table is read out of the SDK's generated clients, by calling every operation of theirs
with a transport that only notes what it was given. So it follows the SDK that is installed,
and a server that checks itself against it cannot drift away from it unseen.

Knows nothing of HTTP, of sandboxes, or of what a server does with a violation.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import importlib
import inspect
import pkgutil
import re
import typing
import warnings
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from types import ModuleType

__all__ = ["Operation", "Schema", "UnknownFields", "Violation"]

_UNKNOWN = "unknown_default_open_api"  # what the SDK makes of an enum value it does not know
_ENVELOPE = {"path", "timestamp", "statusCode", "error", "message", "code", "source", "method"}
_PRIMITIVES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "bytes": (str, bytes),
    "object": (object,),
}


_SIGNED = frozenset({"path", "expires", "signature"})  # of a URL that the SDK signs by itself


class Violation(Exception):
    """A request or an answer that the SDK's generated models do not describe."""


class UnknownFields(Violation):
    """A body with fields that the models do not have, and with which nothing else is wrong."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One row of the table; types are named as the generated clients name them."""

    name: str
    method: str
    path: str
    query: frozenset[str]
    required: frozenset[str]
    body: str | None
    body_required: bool
    form: bool
    responses: Mapping[str, str | None]

    @property
    def literals(self) -> int:
        """How many parts of the path are fixed: the most fixed one wins."""
        return sum("{" not in part for part in self.path.split("/"))


# What the SDK sends without its generated clients.
_BY_HAND = (
    Operation(
        name="create_and_connect_pty",
        method="GET",
        path="/process/pty/create-connect",
        query=frozenset({"id", "cols", "rows", "cwd"}),
        required=frozenset({"id", "cols", "rows"}),
        body=None,
        body_required=False,
        form=False,
        responses={"101": None},
    ),
)


class Schema:
    """The operations of one generated client. Immutable once made, cheap to ask."""

    def __init__(self, package: str, extra: Iterable[Operation] = ()) -> None:
        self._models = importlib.import_module(f"{package}.models")
        self.operations = (*_operations(package), *extra)
        self._patterns = [
            (re.compile(re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(row.path))), row)
            for row in sorted(self.operations, key=lambda row: -row.literals)
        ]

    @classmethod
    @functools.cache  # half a second of imports, once
    def control(cls) -> Schema:
        """The control plane: paths as they follow the API URL, such as `/sandbox/{id}`."""
        return cls("daytona_api_client_async")

    @classmethod
    @functools.cache
    def toolbox(cls) -> Schema:
        """The toolbox: paths as they follow the sandbox's id, such as `/process/execute`."""
        return cls("daytona_toolbox_api_client_async", _BY_HAND)

    def operation(self, method: str, path: str) -> Operation:
        """The row of `path`, a concrete path or a template; raises `Violation` if none."""
        for pattern, row in self._patterns:
            if row.method == method and pattern.fullmatch(path):
                return row
        raise Violation(f"{method} {path}: no operation of the SDK is called so")

    def check_request(
        self, method: str, path: str, query: Collection[str], body: object = None
    ) -> None:
        """Raise `Violation` unless the SDK could have sent this.

        `query` holds the names (a mapping will do); `body` is parsed JSON, None for none
        or for a form, whose parts are not described.
        """
        row = self.operation(method, path)
        where = f"request {method} {row.path}"
        if set(query) != _SIGNED and (unknown := set(query) - row.query):
            raise Violation(f"{where}: unknown query names {sorted(unknown)}")
        if missing := row.required - set(query):
            raise Violation(f"{where}: query names missing: {sorted(missing)}")
        if body is None:
            if row.body_required:
                raise Violation(f"{where}: no body, {row.body} is required")
        elif row.body is None:
            raise Violation(f"{where}: a body where none is described")
        else:
            self._check(where, row.body, body)

    def check_response(self, method: str, path: str, status: int, body: object = None) -> None:
        """Raise `Violation` unless the SDK describes this answer.

        An error may come from a proxy in front, so any status from 400 on may also carry
        the control plane's envelope, or nothing. `body` is parsed JSON, None for none or
        for what is not JSON.
        """
        row = self.operation(method, path)
        where = f"answer {status} of {method} {row.path}"
        described = row.responses.get(str(status))
        if status == 101:
            return  # a WebSocket, whose messages no model describes
        if status >= 400:
            self._check_error(where, described, body)
        elif str(status) not in row.responses:
            raise Violation(f"{where}: described are {sorted(row.responses)}")
        elif body is not None:
            if described is None:
                raise Violation(f"{where}: a body where none is described")
            self._check(where, described, body)
        elif described in {"Dict[str, object]", *_PRIMITIVES}:
            return  # answers that are not JSON are described so: files, forms, logs
        elif described is not None:
            raise Violation(f"{where}: no body, {described} is described")

    def _check_error(self, where: str, described: str | None, body: object) -> None:
        if body is None:
            return
        if described is not None and not (isinstance(body, dict) and "error" in body):
            self._check(where, described, body)
            return
        if not isinstance(body, dict) or not {"statusCode", "message"} <= set(body) <= _ENVELOPE:
            raise Violation(f"{where}: not an error envelope: {body!r}")

    def _check(self, where: str, kind: str, value: object) -> None:
        if item := re.fullmatch(r"List\[(.+)\]", kind):
            if not isinstance(value, list):
                raise Violation(f"{where}: not a list: {value!r}")
            for each in value:
                self._check(where, item[1], each)
        elif item := re.fullmatch(r"Dict\[str, (.+)\]", kind):
            if not isinstance(value, dict):
                raise Violation(f"{where}: not an object: {value!r}")
            for each in value.values():
                self._check(where, item[1], each)
        elif kind in _PRIMITIVES:
            if not isinstance(value, _PRIMITIVES[kind]):
                raise Violation(f"{where}: not {kind}: {value!r}")
        else:
            _check_model(where, getattr(self._models, kind), value)


class _Model(Protocol):
    """What every generated model offers."""

    __name__: str

    def from_dict(self, obj: Any) -> Any:
        """Parse the wire's names."""


def _check_model(where: str, model: _Model, value: object) -> None:
    where = f"{where}: {model.__name__}"
    if isinstance(model, type) and issubclass(model, Enum):
        if value == _UNKNOWN or value not in {member.value for member in model}:
            raise Violation(f"{where}: unknown value {value!r}")
        return
    if not isinstance(value, dict):
        raise Violation(f"{where}: not an object: {value!r}")
    try:
        parsed = model.from_dict(value)
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Violation(f"{where}: {error}") from error
    for complaint in _unknown_values(parsed, model.__name__):
        raise Violation(f"{where}: {complaint}")
    if difference := _difference(value, parsed.to_dict(), ""):
        raise Violation(f"{where}: {difference}")
    for complaint in _unknown_fields(parsed, model.__name__):
        raise UnknownFields(f"{where}: {complaint}")


def _unknown_fields(value: object, where: str) -> Iterator[str]:
    """Names that the models took without knowing them."""
    for below, each in _below(value, where):
        if isinstance(each, BaseModel) and (more := getattr(each, "additional_properties", None)):
            yield f"{below} does not know {sorted(more)}"


def _unknown_values(value: object, where: str) -> Iterator[str]:
    """Enum values that the models took without knowing them."""
    for below, each in _below(value, where):
        if isinstance(each, str) and str.__eq__(each, _UNKNOWN):
            yield f"{below} has a value that the SDK does not know"


def _below(value: object, where: str) -> Iterator[tuple[str, object]]:
    """`value` and all that it has of models, by where it is; not what models do not know."""
    yield where, value
    if isinstance(value, BaseModel):
        for name, field in value:
            if name != "additional_properties":
                yield from _below(field, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _below(item, where)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _below(item, f"{where}.{name}")


def _difference(sent: object, parsed: object, where: str) -> str | None:
    """What the round trip changed; None and defaults that it added do not count."""
    if isinstance(sent, dict) and isinstance(parsed, dict):
        for name, value in sent.items():
            if value is None:
                continue
            if name not in parsed:
                return f"{where}{name} is lost"
            if found := _difference(value, parsed[name], f"{where}{name}."):
                return found
        return None
    if isinstance(sent, list) and isinstance(parsed, list) and len(sent) == len(parsed):
        pairs = zip(sent, parsed, strict=True)
        return next(filter(None, (_difference(a, b, where) for a, b in pairs)), None)
    if isinstance(parsed, dt.datetime) and isinstance(sent, str):
        same = dt.datetime.fromisoformat(sent) == parsed
    else:
        same = sent == parsed and isinstance(sent, bool) == isinstance(parsed, bool)
    return None if same else f"{where.rstrip('.')}: {sent!r} became {parsed!r}"


def _operations(package: str) -> Iterator[Operation]:
    api = importlib.import_module(f"{package}.api")
    for info in pkgutil.iter_modules(api.__path__):
        module: ModuleType = importlib.import_module(f"{api.__name__}.{info.name}")
        for name, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ == module.__name__ and name.endswith("Api"):
                yield from _of_class(cls)


def _of_class(cls: type) -> Iterator[Operation]:
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if hasattr(cls, f"_{name}_serialize"):
            yield _observe(cls, name, inspect.unwrap(method))


def _observe(cls: type, name: str, method: Callable[..., Any]) -> Operation:
    """Call the operation with a transport that notes what it is asked to send."""
    transport = _Transport()
    parameters = inspect.signature(method).parameters.values()
    arguments = {
        each.name: _Argument(each.name)
        for each in parameters
        if each.name != "self" and not each.name.startswith("_")
    }
    with warnings.catch_warnings(), contextlib.suppress(StopIteration):
        warnings.simplefilter("ignore", DeprecationWarning)  # some operations tell theirs
        method(cls(transport), **arguments).send(None)  # nothing in it waits: one step is all
    sent = transport.sent
    optional = {each.name for each in parameters if each.default is not each.empty}
    query = {key: value for key, value in sent["query_params"] if isinstance(value, _Argument)}
    body = sent["body"]
    return Operation(
        name=name,
        method=sent["method"],
        path=sent["resource_path"],
        query=frozenset(query),
        required=frozenset(key for key, value in query.items() if value.name not in optional),
        body=_type_name(method, body.name) if isinstance(body, _Argument) else None,
        body_required=isinstance(body, _Argument) and body.name not in optional,
        form=bool(sent["post_params"] or sent["files"]),
        responses=transport.responses,
    )


def _type_name(method: Callable[..., Any], parameter: str) -> str:
    kind = typing.get_type_hints(method)[parameter]
    if type(None) in typing.get_args(kind):
        (kind,) = (each for each in typing.get_args(kind) if each is not type(None))
    if typing.get_origin(kind) is list:
        return f"List[{typing.get_args(kind)[0].__name__}]"
    return "Dict[str, object]" if typing.get_origin(kind) is dict else str(kind.__name__)


class _Argument:
    """Stands for an argument; serialises to itself, so that it is seen where it arrives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.value = self


class _Transport:
    """The part of the generated `ApiClient` that an operation uses."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}
        self.responses: dict[str, str | None] = {}
        self.data = None

    def select_header_accept(self, accepts: list[str]) -> str:
        return accepts[0]

    def select_header_content_type(self, content_types: list[str]) -> str:
        return content_types[0]

    def param_serialize(self, **sent: Any) -> tuple[()]:
        self.sent = sent
        return ()

    async def call_api(self, _request_timeout: None) -> _Transport:
        return self

    async def read(self) -> None:
        """The answer has no body."""

    def response_deserialize(
        self, response_data: _Transport, response_types_map: dict[str, str | None]
    ) -> _Transport:
        self.responses = response_types_map
        return self
