"""What a recipe for containers refuses before an engine is asked."""

from __future__ import annotations

from typing import Any

import pytest

from paddock import ConfigError, DockerBackend
from paddock.sandbox import Resources

NOWHERE = "unix:///nonexistent/docker.sock"


@pytest.mark.parametrize(
    "image", ["", None, ["python:3.12"], "a b", "-a", "a/../../containers/json", "a/./b", "a:"]
)
def test_an_image_that_cannot_be_is_a_config_error(image: Any) -> None:
    with pytest.raises(ConfigError, match=r"image=.*: give an Image or a reference"):
        DockerBackend(image=image)


@pytest.mark.parametrize(
    "image",
    [
        *("debian", "python:3.12-slim", "paddock:base", "localhost:5000/a/b:1", "a__b/c.d:_x"),
        *("debian@sha256:" + "0" * 64, "sha256:" + "0" * 64, "0123456789ab"),
    ],
)
def test_a_reference_is_taken_however_it_is_spelt(image: str) -> None:
    assert DockerBackend(image=image).image == image


@pytest.mark.parametrize("path", ["", "here", "/a/../b", "/..", 5])
def test_a_working_directory_that_cannot_be_is_a_config_error(path: Any) -> None:
    with pytest.raises(ConfigError, match=r"working_dir=.*: give an absolute path"):
        DockerBackend(working_dir=path)


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"cpu": 0.001}, r"resources: cpu=0\.001 is less than 0\.01"),
        ({"memory": 6 * 1024**2 - 1}, "resources: memory=6291455 is less than 6291456"),
    ],
)
def test_a_limit_below_the_engines_least_is_a_config_error(
    limit: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        DockerBackend(resources=Resources(**limit))


@pytest.mark.parametrize(
    "lease", [0, -1, 0.001, 0.99, float("nan"), float("inf"), "60", True, False]
)
def test_a_lease_that_cannot_be_kept_is_a_config_error(lease: Any) -> None:
    with pytest.raises(ConfigError, match=r"lease=.*: give a number of seconds from 1, or None"):
        DockerBackend(lease=lease)


@pytest.mark.parametrize("sandbox_id", ["", "../images/json", "a/b", "-a", 5, None])
async def test_what_is_no_id_is_told_before_an_engine_is_asked(sandbox_id: Any) -> None:
    with pytest.raises(ConfigError, match="is not a sandbox's id"):
        await DockerBackend(host=NOWHERE).attach(sandbox_id)
