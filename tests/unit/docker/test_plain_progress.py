"""The plain progress of a BuildKit build: what is told of it, and which error it ends in.

The lines are those of Docker 20.10 and of buildx 0.13.
"""

from __future__ import annotations

import pytest

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.images.progress import PlainProgress
from paddock.backends.images import ImageProgress, Output, Step
from paddock.errors import BuildFailed
from paddock.redaction import Redactor

SECRET = "correct-horse-battery"
OLD = f"""\
#1 [internal] load build definition from Dockerfile
#1 sha256:ce4ca541e913de4f14a11b0e05241a91c5dd4dc8caf486a1b2b22a05d5b8f2cb
#1 transferring dockerfile: 158B 0.0s done
#1 DONE 0.1s

#3 [internal] load metadata for docker.io/library/paddock:base
#3 DONE 0.0s
#4 [1/2] FROM docker.io/library/paddock:base
#4 CACHED
#5 [builder 2/2] RUN cat /run/secrets/a; false
#5 sha256:7115685b17704d515f0112f67f8967efaeed2c17dafbd7af3a12e44cfb7d1acb
#5 0.395 so far {SECRET}
#5 0.396
#5 ERROR: executor failed running [/bin/sh -c cat; false]: exit code: 1
------
 > [builder 2/2] RUN cat /run/secrets/a; false:
------
executor failed running [/bin/sh -c cat; false]: exit code: 1
"""
NEW = """\
#0 building with "default" instance using docker driver
#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s
#2 [internal] load metadata for localhost:1/x:1
#2 ERROR: failed to do request: connection refused
------
 > [internal] load metadata for localhost:1/x:1:
------
Dockerfile:1
ERROR: failed to solve: localhost:1/x:1: failed to resolve source metadata
"""


def read(text: str, told: list[ImageProgress] | None = None) -> PlainProgress:
    tell = told.append if told is not None else lambda event: None
    progress = PlainProgress("i:1", tell, Redactor.marking([SECRET], "[hidden]"))
    for line in text.splitlines(keepends=True):
        progress.take(line)
    return progress


def test_steps_and_lines_are_told_as_they_come_without_secrets() -> None:
    told: list[ImageProgress] = []
    read(OLD, told)
    assert [event.instruction for event in told if isinstance(event, Step)] == [
        "FROM docker.io/library/paddock:base",
        "(builder) RUN cat /run/secrets/a; false",
    ]
    lines = [event.line for event in told if isinstance(event, Output)]
    assert lines == ["transferring dockerfile: 158B 0.0s done", "so far [hidden]"]


def test_a_step_that_fails_is_an_error_with_its_lines_and_without_secrets() -> None:
    with pytest.raises(BuildFailed) as caught:
        read(OLD).finish(1)
    error = caught.value
    assert error.step == "RUN cat /run/secrets/a; false"
    assert error.reason == "executor failed running [/bin/sh -c cat; false]: exit code: 1"
    assert error.output.strip() == "so far [hidden]"
    assert SECRET not in str(error)


def test_an_image_that_cannot_be_had_is_the_step_that_begins_with_it() -> None:
    with pytest.raises(BuildFailed) as caught:
        read(NEW).finish(1)
    assert caught.value.step == "FROM localhost:1/x:1"
    assert caught.value.reason == "failed to do request: connection refused"


def test_a_dockerfile_that_cannot_be_read_fails_before_the_first_step() -> None:
    said = "failed to solve with frontend dockerfile.v0: rpc error: code = Unknown desc = line 2"
    with pytest.raises(BuildFailed) as caught:
        read(f"#1 [internal] load build definition\n#1 DONE 0.1s\n{said}\n").finish(1)
    assert (caught.value.step, caught.value.reason) == ("(before the first step)", "line 2")


def test_a_build_that_never_began_is_the_engine_s_error() -> None:
    with pytest.raises(EngineError, match="the docker CLI failed: Cannot connect"):
        read("ERROR: Cannot connect to the Docker daemon\n").finish(1)
    read("#1 [internal] x\n").finish(0)
