"""The package's loggers. They show no secret that a live session knows."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from paddock.redaction import Redactor

__all__ = ["get_logger", "redact_logs"]


class HasRedactor(Protocol):
    """What knows secrets; its redactor may come to know more."""

    redactor: Redactor


class _RedactingFilter(logging.Filter):
    """Takes secrets out of messages, tracebacks and stacks, whatever handles them then.

    A logger asks its own filters only, so each of our loggers has this one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()  # what is collected while it is held may log
        self._known: weakref.WeakSet[HasRedactor] = weakref.WeakSet()

    def know(self, scope: HasRedactor) -> None:
        with self._lock:  # a set must not change while another thread copies it
            self._known.add(scope)

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if (shown := self._redacted(message)) != message:
            record.msg, record.args = shown, ()
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
            if (shown := self._redacted(trace)) != trace:
                record.exc_info, record.exc_text = None, shown
        if record.stack_info:
            record.stack_info = self._redacted(record.stack_info)
        return True

    def _redacted(self, text: str) -> str:
        with self._lock:
            known = list(self._known)
        for scope in known:
            text = scope.redactor.text(text)
        return text


_FILTER: Final = _RedactingFilter()


def get_logger(name: str) -> logging.Logger:
    """Return the logger of the module `name`, which redacts."""
    logger = logging.getLogger(name)
    logger.addFilter(_FILTER)
    return logger


def redact_logs(scope: HasRedactor) -> None:
    """Keep the secrets of `scope` out of the package's logs while `scope` is referred to."""
    _FILTER.know(scope)
