"""Structured logs on standard error: JSON lines for machines, key=value for people.

Owns format and set-up. A record's own fields travel as `extra=fields(...)`. Values
are what the caller names, one by one: a whole configuration, which may carry
secrets, is never logged.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

Format = Literal["json", "text"]

_ATTRIBUTE: Final = "eventengine_fields"
LEVELS: Final = ("debug", "info", "warning", "error")


def fields(**values: object) -> dict[str, Any]:
    """The `extra` of a log call: fields that stand beside the message."""
    return {_ATTRIBUTE: values}


def set_up(level: str = "info", form: Format | None = None, stream: TextIO | None = None) -> Format:
    """Send all logs to `stream`, standard error by default: as text to a terminal, as JSON to a pipe.

    Returns the form, so that the native half can be told to write the same.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    chosen: Format = form or ("text" if stream.isatty() else "json")
    handler.setFormatter(JsonFormatter() if chosen == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    return chosen


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    values = getattr(record, _ATTRIBUTE, {})
    return values if isinstance(values, dict) else {}


def _time_of(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _fields_of(record).items():
            line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One readable line: time, level, message, then the record's fields as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        parts = [_time_of(record), record.levelname.lower().ljust(7), record.getMessage()]
        for name, value in _fields_of(record).items():
            text = str(value)
            parts.append(f"{name}={json.dumps(text) if ' ' in text or not text else text}")
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
