"""Serving tools over the Model Context Protocol (MCP), with its official SDK.

Knows neither agents nor sessions: what is served is a `Toolbox`. Raises `MissingDependency` when
it is imported without the SDK.
"""

from paddock.errors import MissingDependency

try:
    import mcp  # noqa: F401
except ImportError as error:
    raise MissingDependency(error.name or "mcp", "mcp") from error
