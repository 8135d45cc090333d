"""What `paddock mcp` serves, and what it says of what it cannot serve."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, Runtime
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
"""


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current directory."""
    (tmp_path / "shop_for_mcp.py").write_text(SHOP)
    (tmp_path / "broken_shop.py").write_text("import no_such_module_anywhere")
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
    ],
)
async def test_what_is_no_runtime_is_said(source: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        await find_runtime(source)


async def test_a_module_that_lacks_something_says_what() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        await find_runtime("broken_shop:runtime")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"transport": "sse"}, "there is 'streamable-http'"),
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
