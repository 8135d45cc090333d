"""Sandboxes for agents: provision, run tool calls in them, take everything down again.

The public names are those of ``__init__.pyi``. Each is imported from its home when it is first
used, so that ``import paddock`` costs next to nothing and loads no dependency.
"""

import lazy_loader

_public_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("paddock")
    return _public_name(name)
