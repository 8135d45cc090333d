"""What a server may be told: times and bounds. Tests shorten them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServerSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Times in seconds, sizes in bytes."""

    heartbeat: float = 15.0
    """Between two signs that a run is active: clients have idle time-outs of a minute and more."""
    linger: float = 5.0
    """Until the connection of an older client closes that may or may not send another request."""
    grace: float = 30.0
    """For runs to end when the server stops, before they are cancelled."""
    resume_grace: float = 120.0
    """For a client that negotiated to come back, before its run is cancelled."""
    handler_grace: float = 10.0
    """For a handler to end that was cancelled, before it is left behind."""
    look_interval: float = 2.0
    """Between two looks for artifacts during a run. Those that did not change between them
    are brought out then, and the others when it ends."""
    ask_timeout: float = 30.0
    """For a client to answer where an artifact goes: it signs a URL, or asks a service that can."""
    asks_timeout: float = 60.0
    """Without any such answer until the other artifacts count as unanswered too."""
    upload_timeout: float = 60.0
    """For one attempt to upload an artifact."""
    upload_pauses: tuple[float, ...] = (1.0, 4.0)
    """Between the attempts: a store that restarts is back by then."""
    download_timeout: float = 600.0
    """For one download: 2 GiB at 4 MB/s."""
    terminal_kept: float = 3600.0
    """For which the end of a run can be asked for by a client that lost its connection."""
