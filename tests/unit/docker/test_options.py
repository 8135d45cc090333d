"""Options of an engine: what is taken, what is refused, and what weakens a container."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers.options import EngineOptions
from paddock.backends.docker.containers.posture import binds_of_volume, weaknesses
from paddock.errors import ConfigError

HARDENED: dict[str, Any] = {
    "CapAdd": ["CAP_CHOWN", "KILL"],
    "CapDrop": ["ALL"],
    "IpcMode": "private",
    "MaskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
    "Mounts": [{"Type": "volume", "Source": "cache", "Target": "/cache"}],
    "NetworkMode": "none",
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    "SecurityOpt": ["no-new-privileges", "seccomp={}"],
}


def test_options_become_fields_of_the_engine() -> None:
    options = EngineOptions(
        gpus=2,
        volumes=[("cache", "/cache"), ("models", "/srv/models", "ro")],
        sysctls={"net.core.somaxconn": "512"},
        others={"CpusetCpus": "0", "oomscoreadj": 500},
    )
    assert options.host_config({"OomScoreAdj": 0}) == {
        "DeviceRequests": [
            {"Driver": "", "Capabilities": [["gpu"]], "Options": {}, "Count": 2},
        ],
        "Mounts": [
            {"Type": "volume", "Source": "cache", "Target": "/cache", "ReadOnly": False},
            {"Type": "volume", "Source": "models", "Target": "/srv/models", "ReadOnly": True},
        ],
        "Sysctls": {"net.core.somaxconn": "512"},
        "CpusetCpus": "0",
        "OomScoreAdj": 500,
    }


@pytest.mark.parametrize(
    ("gpus", "request_"),
    [("all", {"Count": -1}), ("device=0,GPU-3", {"DeviceIDs": ["0", "GPU-3"]})],
)
def test_gpus_are_asked_for_as_the_docker_cli_does(gpus: str, request_: dict[str, Any]) -> None:
    (found,) = EngineOptions(gpus=gpus).host_config({})["DeviceRequests"]
    assert found == {"Driver": "", "Capabilities": [["gpu"]], "Options": {}} | request_


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"gpus": 0}, "gpus=0"),
        ({"gpus": True}, "gpus=True"),
        ({"gpus": "device="}, "device=0,1"),
        ({"platform": "arm 64"}, "platform="),
        ({"volumes": [("/home", "/x")]}, "directories of this machine are not mounted"),
        ({"volumes": ["cache:/x"]}, "give \\(name, path\\)"),
        ({"volumes": [("a", "x")]}, "absolute path"),
        ({"volumes": [("a", "/x/../usr")]}, "absolute path"),
        ({"volumes": [("a", "//usr//local")]}, "none of the system's own"),
        ({"volumes": [("a", "/")]}, "none of the system's own"),
        ({"volumes": [("a", "/x", "rw,z")]}, "'ro' or is left out"),
        ({"extra_hosts": {"a b": "10.0.0.1"}}, "not the name of a host"),
        ({"extra_hosts": {"a": "b"}}, "neither an address nor host-gateway"),
        ({"extra_hosts": ["a"]}, "extra_hosts: give a mapping"),
        ({"sysctls": {"kernel.core_pattern": "|/x"}}, "setting that a container has"),
        ({"sysctls": {"net.core.somaxconn": 1}}, "is not text"),
        ({"engine_options": {"AutoRemove": False}}, "a sandbox depends on it"),
        ({"engine_options": {"autoremove": False}}, "a sandbox depends on it"),
        ({"engine_options": {"Init": True}, "hardening": "none"}, "a sandbox depends on it"),
        ({"engine_options": {"Memory": 0}}, "Memory: use resources="),
        ({"engine_options": {"networkMode": "host"}}, "use network="),
        ({"engine_options": {"BINDS": ["/:/x"]}}, "BINDS: use volumes="),
        ({"engine_options": {"capadd": ["SYS_ADMIN"]}}, "use hardening="),
        ({"engine_options": {"pid\u017fLimit": -1}}, "is not a field"),
        ({"engine_options": {"networ\u212aMode": "host"}}, "is not a field"),
        ({"engine_options": {"CgroupnsMode": "host"}}, "use hardening="),
        ({"engine_options": {"Ulimits": object()}}, "is not text, a number, a list"),
        ({"hardening": "weak"}, "default, strict or none"),
    ],
)
def test_what_cannot_be_meant_is_a_config_error(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        DockerBackend(**wrong)


def test_a_recipe_with_options_is_a_value() -> None:
    given: dict[str, Any] = {
        "volumes": [["cache", "/cache"]],
        "engine_options": {"Ulimits": [{"Name": "nofile", "Soft": 64}]},
    }
    assert DockerBackend(**given) == DockerBackend(**given)
    assert len({DockerBackend(**given), DockerBackend(**given), DockerBackend()}) == 2


def test_a_hardened_container_has_no_weakness() -> None:
    assert weaknesses(HARDENED) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"Privileged": True}, "Privileged=True"),
        ({"CapAdd": ["SYS_ADMIN"]}, "CapAdd=['SYS_ADMIN']"),
        ({"CapDrop": []}, "CapDrop lacks ALL"),
        ({"PidMode": "host"}, "PidMode='host'"),
        ({"IpcMode": "container:x"}, "IpcMode='container:x'"),
        ({"NetworkMode": "host"}, "NetworkMode='host'"),
        ({"UsernsMode": "host"}, "UsernsMode='host'"),
        ({"Binds": ["/var/run/docker.sock:/x"]}, "Binds="),
        ({"Mounts": [{"Type": "bind", "Source": "/"}]}, "Mounts=bind of '/'"),
        (
            {"Mounts": [{"Type": "volume", "VolumeOptions": {"DriverConfig": {"Name": "local"}}}]},
            "Mounts=volume",
        ),
        ({"VolumesFrom": ["x"]}, "VolumesFrom"),
        ({"Devices": [{"PathOnHost": "/dev/sda"}]}, "Devices="),
        ({"DeviceCgroupRules": ["a *:* rwm"]}, "DeviceCgroupRules"),
        ({"SecurityOpt": ["no-new-privileges"]}, "lacks a seccomp profile"),
        ({"SecurityOpt": ["seccomp=unconfined", "no-new-privileges"]}, "seccomp=unconfined"),
        ({"SecurityOpt": [*HARDENED["SecurityOpt"], "apparmor=unconfined"]}, "apparmor="),
        ({"SecurityOpt": [*HARDENED["SecurityOpt"], "label=disable"]}, "label=disable"),
        ({"MaskedPaths": []}, "MaskedPaths without /proc/kcore"),
        ({"MaskedPaths": ["/x"]}, "MaskedPaths without /proc/kcore"),
        ({"ReadonlyPaths": None}, "ReadonlyPaths without /proc/bus"),
        ({"ReadonlyPaths": ["/proc/sys/kernel"]}, "/proc/sys, /proc/sysrq-trigger"),
        ({"PortBindings": {"80/tcp": [{"HostPort": "80"}]}}, "PortBindings"),
        ({"CgroupParent": "/"}, "CgroupParent='/'"),
        ({"OomKillDisable": True}, "OomKillDisable"),
    ],
)
def test_what_weakens_a_container_is_found(change: dict[str, Any], told: str) -> None:
    (weak,) = weaknesses(HARDENED | change)
    assert told in weak


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (None, None),
        ({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, None),
        ({"type": "nfs", "o": "addr=10.0.0.1,rw", "device": ":/x"}, None),
        ({"type": "none", "o": "bind", "device": "/var/run"}, "/var/run"),
        ({"o": "ro,rbind", "device": "/"}, "/"),
    ],
)
def test_a_volume_that_is_a_directory_of_the_engine_s_machine_is_found(
    options: dict[str, str] | None, path: str | None
) -> None:
    assert binds_of_volume({"Options": options}) == path
