"""Paddock's terms in Daytona's: what is told, and what is refused before anything is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.daytona import DaytonaBackend
from paddock.backends.daytona.terms import (
    GIBIBYTE,
    network_settings,
    resource_settings,
    snapshot_image,
    snapshot_of,
)
from paddock.errors import ConfigError, PaddockError, Unsupported
from paddock.image import Image
from paddock.network import Allow
from paddock.sandbox import Resources

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ("full", {}),
        ("none", {"network_block_all": True}),
        (Allow(hosts=[]), {"network_block_all": True}),
        (Allow(hosts=["192.0.2.1"]), {"network_allow_list": "192.0.2.1/32"}),
        (Allow(hosts=["10.0.0.0/8"]), {"network_allow_list": "10.0.0.0/8"}),
        (
            Allow(hosts=["pypi.org", "*.example.org", "192.0.2.1", "192.0.2.2"]),
            {
                "domain_allow_list": "pypi.org,*.example.org",
                "network_allow_list": "192.0.2.1/32,192.0.2.2/32",
            },
        ),
    ],
)
def test_a_network_is_told_in_lists(network: Allow | str, told: Mapping[str, Any]) -> None:
    assert network_settings(network) == told


@pytest.mark.parametrize("entry", ["example.org:8443", "192.0.2.1:80", "[2001:db8::1]:80"])
def test_a_port_or_an_ipv6_address_is_refused_and_not_dropped(entry: str) -> None:
    with pytest.raises(Unsupported, match="without ports"):
        network_settings(Allow(hosts=["pypi.org", entry]))


def test_resources_are_whole_cores_and_gibibytes() -> None:
    assert resource_settings(Resources()) == {}
    wanted = Resources(cpu=2, memory=4 * GIBIBYTE, disk=8 * GIBIBYTE)
    told = resource_settings(wanted)
    assert told == {"cpu": 2, "memory": 4, "disk": 8}
    assert {type(value) for value in told.values()} == {int}  # the SDK takes no 2.0


@pytest.mark.parametrize(
    "resources",
    [
        Resources(cpu=0.5),
        Resources(cpu=1.5),
        Resources(memory=GIBIBYTE - 1),
        Resources(memory=512 * 1024**2),
        Resources(disk=3 * GIBIBYTE + 1),
    ],
)
def test_parts_of_units_are_refused_and_not_rounded(resources: Resources) -> None:
    with pytest.raises(ConfigError, match="whole"):
        resource_settings(resources)


def test_ten_names_and_ten_addresses_are_taken() -> None:
    names = [f"*.n{number}.example.org" for number in range(10)]
    addresses = [f"192.0.2.{number}" for number in range(10)]
    told = network_settings(Allow(hosts=[*names, *addresses]))
    assert told["domain_allow_list"].split(",") == names
    assert told["network_allow_list"].split(",") == [f"{each}/32" for each in addresses]


def test_a_limit_on_processes_is_refused() -> None:
    with pytest.raises(Unsupported, match="processes"):
        resource_settings(Resources(pids=100))


def test_a_snapshot_is_an_image_and_back() -> None:
    image = snapshot_image("team/base:3")
    assert snapshot_of(image) == "team/base:3"
    assert snapshot_of(image.steps[0].name) == "team/base:3"  # type: ignore[union-attr]
    assert snapshot_of(image.run_commands("true")) is None
    assert snapshot_of("debian:12") is None
    assert snapshot_of(Image.from_registry("debian:12")) is None
    assert snapshot_of(object()) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"network": "some"}, "full, none"),
        ({"lease": 0}, "lease"),
        ({"lease": -1.0}, "lease"),
        ({"auto_stop_interval": -5}, "auto_stop_interval"),
        ({"image": "debian:12", "snapshot": "mine"}, "not both"),
        ({"working_dir": "work"}, "absolute"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_when_it_is_written(
    wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        DaytonaBackend(**wrong)


@pytest.mark.parametrize(
    "recipe",
    [
        DaytonaBackend(snapshot="mine", resources=Resources(cpu=1)),
        DaytonaBackend(image=snapshot_image("mine"), resources=Resources(cpu=1)),
        DaytonaBackend(network=Allow(hosts=["example.org:1"])),
        DaytonaBackend(network=Allow(hosts=["localhost"])),
        DaytonaBackend(network=Allow(hosts=["example.org", "org"])),
        DaytonaBackend(network=Allow(hosts=[f"{number}.example.org" for number in range(11)])),
        DaytonaBackend(network=Allow(hosts=[f"192.0.2.{number}" for number in range(11)])),
        DaytonaBackend(resources=Resources(cpu=0.5)),
    ],
)
async def test_what_cannot_be_had_is_refused_before_anybody_is_asked(
    recipe: DaytonaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAYTONA_API_KEY", raising=False)
    with pytest.raises(PaddockError) as caught:
        await recipe.create()
    assert "DAYTONA_API_KEY" not in str(caught.value)  # there is no key, and it did not come to it


@pytest.mark.rows("S-60")
async def test_without_a_key_the_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("API_KEY", "JWT_TOKEN", "ORGANIZATION_ID"):
        monkeypatch.delenv(f"DAYTONA_{name}", raising=False)
    (tmp_path / ".env").write_text("DAYTONA_API_KEY=of-somebody-else\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="DAYTONA_API_KEY"):
        await DaytonaBackend().create()
