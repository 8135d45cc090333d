"""What is looked at before an engine is asked to build."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from paddock.backends.docker.engine.client import Engine
from paddock.backends.docker.engine.endpoint import Endpoint
from paddock.backends.docker.images.builders import builder_for
from paddock.backends.docker.images.logins import Logins
from paddock.errors import ConfigError
from paddock.image import Image
from paddock.image.instructions import read_source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("text", ["ARG A=1\n", "# escape=`\nARG A\nLABEL a=`\nFROM b\n", ""])
async def test_a_dockerfile_without_an_image_reaches_no_engine(tmp_path: Path, text: str) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    nowhere = Engine(Endpoint(f"unix://{tmp_path}/none"), cast("Any", SimpleNamespace()))
    bundle = Image.from_dockerfile(path).bundle()
    with pytest.raises(ConfigError, match=r"from_dockerfile: \S+/Dockerfile has no FROM"):
        await builder_for(nowhere, bundle, read_source(text), Logins({}))
