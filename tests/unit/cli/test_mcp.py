"""What `paddock mcp` serves, and what it says of what it cannot serve."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, Runtime
from paddock.cli import main
from paddock.cli.mcp import ServingOptions, find_runtime, read_mapping
from paddock.mcp import create_mcp_runtime

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
from paddock.mcp import create_mcp_runtime

def make():
    return create_mcp_runtime()

async def make_later():
    return create_mcp_runtime()

class Shops:
    second = create_mcp_runtime()

runtime = create_mcp_runtime()
number = 3

def fail():
    raise OSError("no shop")

def needy(argument):
    return runtime

class Lazy:
    @property
    def runtime(self):
        raise OSError("not yet")

lazy = Lazy()
"""


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current directory."""
    (tmp_path / "shop_for_mcp.py").write_text(SHOP)
    (tmp_path / "broken_shop.py").write_text("import no_such_module_anywhere")
    (tmp_path / "garbled_shop.py").write_text("def x(:")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "shop_for_mcp", raising=False)


@pytest.mark.rows("F-34")
@pytest.mark.parametrize("name", ["runtime", "make", "make_later", "Shops.second"])
async def test_a_runtime_is_found_or_made(name: str) -> None:
    assert isinstance(await find_runtime(f"shop_for_mcp:{name}"), Runtime)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("shop_for_mcp", "give MODULE:OBJECT"),
        (":runtime", "give MODULE:OBJECT"),
        ("shops:runtime", "there is no module 'shops'"),
        ("shop_for_mcp:runtim", "there is no 'runtim' in shop_for_mcp"),
        ("shop_for_mcp:number", "is a int: give a Runtime"),
        ("..:runtime", "is not the name of a module"),
        ("shop_for_mcp.:runtime", "is not the name of a module"),
        ("shop_for_mcp.shelves:runtime", "there is no module 'shop_for_mcp.shelves'"),
    ],
)
async def test_what_is_no_runtime_is_said(source: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        await find_runtime(source)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("broken_shop:x", r"importing broken_shop failed: ModuleNotFoundError: .*no_such_module"),
        (
            "garbled_shop:x",
            r"importing garbled_shop failed: SyntaxError: .*garbled_shop\.py, line 1",
        ),
        (
            "shop_for_mcp:fail",
            r"calling it without arguments failed: OSError: no shop \(.*line \d+",
        ),
        ("shop_for_mcp:needy", r"calling it without arguments failed: TypeError: .*argument"),
        ("shop_for_mcp:lazy.runtime", r"looking up 'runtime' failed: OSError: not yet"),
    ],
)
async def test_what_goes_wrong_in_the_users_code_is_said_with_its_place(
    source: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        await find_runtime(source)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"transport": "sse"}, "--transport sse: give stdio or streamable-http"),
        ({"call_timeout": 0.0}, "the time for a call is 0.0: give more than 0 seconds"),
        ({"call_timeout": float("nan")}, "give more than 0 seconds"),
        ({"transport": "streamable-http", "host": "0.0.0.0"}, "needs a token"),
        ({"transport": "streamable-http", "path": "x"}, "such as /mcp"),
    ],
)
async def test_a_way_to_serve_that_cannot_be_is_said(options: dict[str, Any], told: str) -> None:
    serving = ServingOptions(**options)
    with pytest.raises(ValueError, match=told):
        await serving.serve(create_mcp_runtime(), "mcp")


def test_a_data_environment_is_a_mapping_in_yaml_or_json(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("tenant_id: acme\n")
    assert read_mapping(path) == {"tenant_id": "acme"}
    path.write_text('{"tenantId": "acme"}')
    assert read_mapping(path) == {"tenantId": "acme"}
    path.write_text("- a\n")
    with pytest.raises(ConfigError, match="a data environment is a mapping"):
        read_mapping(path)


@pytest.mark.rows("F-34")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--toolkit", "nope"], "unknown toolkit 'nope': there are agents, plans"),
        (["--toolkit", "references", "--toolkit", "references"], "toolkit 'references' twice"),
        (["--toolkit", "references", "--agent", "a/b"], "the name 'a/b': printable text"),
        (["--toolkit", "catalog"], "its tools need data_environment.catalog"),
    ],
)
def test_a_toolkit_that_cannot_be_served_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mcp", "toolkit", *arguments]) == 1
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.rows("F-35")
@pytest.mark.parametrize("command", ["eval", "evals", "studio", "data", "catalog", "trace"])
def test_what_is_outside_is_not_half_there(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evals, Studio and the original's commands for data and traces are no part of Paddock."""
    assert main([command]) == 2
    assert f"No such command '{command}'" in capsys.readouterr().err
