"""How the options of a command change the recipe that a session was saved with."""

from __future__ import annotations

import pytest

from paddock import ConfigError, DaytonaBackend, DockerBackend, LocalBackend, Unsupported
from paddock.cli.recipes import make_backend, vary_backend


def test_a_recipe_is_left_as_it_is_where_nothing_is_said() -> None:
    recipe = DockerBackend(image="node:20", env_vars={"A": "1"}, setup=["npm ci"])
    assert vary_backend(recipe) == recipe


def test_variables_join_those_of_the_recipe_and_all_else_takes_their_place() -> None:
    recipe = DockerBackend(image="node:20", env_vars={"A": "1", "B": "1"}, setup=["npm ci"])
    varied = vary_backend(recipe, env=["B=2"], setup=["make"], image="node:22", working_dir="/w")
    assert varied == DockerBackend(
        image="node:22", env_vars={"A": "1", "B": "2"}, setup=["make"], working_dir="/w"
    )


def test_a_snapshot_takes_the_place_of_an_image_and_an_image_that_of_a_snapshot() -> None:
    begun = DaytonaBackend(image="python:3.12", env_vars={"A": "1"})
    from_snapshot = vary_backend(begun, snapshot="mine")
    assert from_snapshot == DaytonaBackend(snapshot="mine", env_vars={"A": "1"})
    assert vary_backend(from_snapshot, image="python:3.12") == begun


def test_what_the_saved_backend_cannot_do_is_refused() -> None:
    with pytest.raises(Unsupported, match="--isolation"):
        vary_backend(DockerBackend(), isolation="none")
    with pytest.raises(Unsupported, match="--snapshot"):
        vary_backend(LocalBackend(), snapshot="mine")


@pytest.mark.parametrize("backend", ["docker", "daytona"])
def test_an_image_without_a_name_is_not_taken_for_none(backend: str) -> None:
    with pytest.raises(ConfigError, match="image"):
        make_backend(backend, image="")


def test_a_snapshot_without_a_name_is_not_taken_for_none() -> None:
    with pytest.raises(ConfigError, match="snapshot"):
        make_backend(None, snapshot="")
