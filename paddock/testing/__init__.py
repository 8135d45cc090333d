"""For tests of what uses Paddock, and of backends.

Names are imported from their modules when they are first used: the pytest plugin is part of this
package, and costs nothing in runs that need no sandbox.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.runtime.models.scripted import ScriptedModel
    from paddock.testing._lending import SandboxFactory
    from paddock.testing.conformance import BackendConformance
    from paddock.testing.fake import (
        FakeBackend,
        FakeCall,
        FakeHost,
        FakeSandbox,
        Fault,
        FaultOrder,
        Reply,
    )
    from paddock.testing.recorded import CassetteMismatch, Recorded

__all__ = [
    "BackendConformance",
    "CassetteMismatch",
    "FakeBackend",
    "FakeCall",
    "FakeHost",
    "FakeSandbox",
    "Fault",
    "FaultOrder",
    "Recorded",
    "Reply",
    "SandboxFactory",
    "ScriptedModel",
]

_MODULES = {
    "BackendConformance": "paddock.testing.conformance",
    "CassetteMismatch": "paddock.testing.recorded",
    "FakeBackend": "paddock.testing.fake",
    "FakeCall": "paddock.testing.fake",
    "FakeHost": "paddock.testing.fake",
    "FakeSandbox": "paddock.testing.fake",
    "Fault": "paddock.testing.fake",
    "FaultOrder": "paddock.testing.fake",
    "Recorded": "paddock.testing.recorded",
    "Reply": "paddock.testing.fake",
    "SandboxFactory": "paddock.testing._lending",
    "ScriptedModel": "paddock.runtime.models.scripted",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
