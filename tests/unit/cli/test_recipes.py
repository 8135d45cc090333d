"""How the options of a command change the recipe that a session was saved with."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from paddock import ConfigError, DaytonaBackend, DockerBackend, LocalBackend, Unsupported
from paddock.cli.recipes import make_backend, vary_backend
from paddock.cli.sandbox_options import SandboxOptions
from paddock.transfers import DEFAULT_IGNORE


def test_a_recipe_is_left_as_it_is_where_nothing_is_said() -> None:
    recipe = DockerBackend(image="node:20", env_vars={"A": "1"}, setup=["npm ci"])
    assert vary_backend(recipe, SandboxOptions()) == recipe


def test_variables_join_those_of_the_recipe_and_all_else_takes_their_place() -> None:
    recipe = DockerBackend(image="node:20", env_vars={"A": "1", "B": "1"}, setup=["npm ci"])
    varied = vary_backend(
        recipe, SandboxOptions(env=["B=2"], setup=["make"], image="node:22", working_dir="/w")
    )
    assert varied == DockerBackend(
        image="node:22", env_vars={"A": "1", "B": "2"}, setup=["make"], working_dir="/w"
    )


def test_a_snapshot_takes_the_place_of_an_image_and_an_image_that_of_a_snapshot() -> None:
    begun = DaytonaBackend(image="python:3.12", env_vars={"A": "1"})
    from_snapshot = vary_backend(begun, SandboxOptions(snapshot="mine"))
    assert from_snapshot == DaytonaBackend(snapshot="mine", env_vars={"A": "1"})
    assert vary_backend(from_snapshot, SandboxOptions(image="python:3.12")) == begun


def test_what_the_saved_backend_cannot_do_is_refused() -> None:
    with pytest.raises(Unsupported, match="--isolation"):
        vary_backend(DockerBackend(), SandboxOptions(isolation="none"))
    with pytest.raises(Unsupported, match="--snapshot"):
        vary_backend(LocalBackend(), SandboxOptions(snapshot="mine"))


@pytest.mark.parametrize("backend", ["docker", "daytona"])
def test_an_image_without_a_name_is_not_taken_for_none(backend: str) -> None:
    with pytest.raises(ConfigError, match="image"):
        make_backend(SandboxOptions(backend=backend, image=""))


def test_a_snapshot_without_a_name_is_the_default_of_the_account_and_not_taken_for_none() -> None:
    made = make_backend(SandboxOptions(snapshot=""))
    assert isinstance(made, DaytonaBackend)
    assert made.snapshot == ""


def test_patterns_of_an_upload_join_those_that_always_apply(tmp_path: Path) -> None:
    made = make_backend(
        SandboxOptions(
            backend="local",
            upload=[f"{tmp_path}:w"],
            ignore=["!.git", "*.log"],
            gitignore=True,
            links="skip",
        )
    )
    assert made.upload_ignore == (*DEFAULT_IGNORE, "!.git", "*.log")
    assert (made.upload_gitignore, made.upload_links) == (True, "skip")
    varied = vary_backend(made, SandboxOptions(ignore=["more"], gitignore=False))
    assert varied.upload_ignore == (*made.upload_ignore, "more")
    assert (varied.upload_gitignore, varied.upload_links) == (False, "skip")


def test_options_of_an_upload_that_nothing_has_use_for_are_refused(tmp_path: Path) -> None:
    for options in ({"ignore": ["x"]}, {"gitignore": True}, {"links": "skip"}):
        with pytest.raises(typer.BadParameter, match="nothing is uploaded"):
            make_backend(SandboxOptions(backend="local", **options))
    upload = [f"{tmp_path}:w"]
    with pytest.raises(ConfigError, match="links='follow': give 'keep' or"):
        make_backend(SandboxOptions(backend="local", upload=upload, links="follow"))
    with pytest.raises(ConfigError, match="ignore='/': give patterns"):
        make_backend(SandboxOptions(backend="local", upload=upload, ignore=["/"]))


def test_directories_are_of_the_directory_where_the_command_was_given() -> None:
    recipe = make_backend(SandboxOptions(dirs=["data", "/srv/cache"]))
    assert recipe == LocalBackend(dirs=[str(Path.cwd() / "data"), "/srv/cache"])
    with pytest.raises(Unsupported, match="--dir;"):
        make_backend(SandboxOptions(backend="docker", dirs=["data"]))
