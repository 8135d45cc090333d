"""The modules of backends, of the guest and of its host import in one direction."""

from __future__ import annotations

import grimp
import pytest


@pytest.mark.parametrize("package", ["daytona", "docker", "guest", "isolation", "local"])
def test_there_is_no_circle_type_checking_imports_included(package: str) -> None:
    graph = grimp.build_graph("paddock", exclude_type_checking_imports=False, cache_dir=None)
    modules = [name for name in graph.modules if name.startswith(f"paddock.backends.{package}")]
    left = {name: graph.find_modules_directly_imported_by(name) & {*modules} for name in modules}
    assert len(left) > 3
    while leaves := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in leaves:
            del left[name]
    assert not left, f"these import each other: {sorted(left)}"
