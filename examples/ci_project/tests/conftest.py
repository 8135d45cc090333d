"""All sandboxes of these tests have the project in them."""

import dataclasses
from pathlib import Path

import pytest

from paddock import Backend, get_backend

PACKAGE = Path(__file__).parents[1] / "report"


@pytest.fixture(scope="session")
def sandbox_recipe(sandbox_backend: str) -> Backend:
    recipe = get_backend(sandbox_backend)()
    return dataclasses.replace(recipe, uploads=[(str(PACKAGE), "report")])
