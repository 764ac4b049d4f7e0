"""
Log lines, for people or for machines, to standard error.

In:    a format and a level.
Out:   the root logger, set up; both formats include the `extra=` fields of a call.
Rules: kopf's own lines are about its handlers, which do not concern users: only its warnings are shown.
"""

import json
import logging
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | _extras(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, message, then `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, followed by a traceback if there is one."""
        fields = "".join(f" {name}={value}" for name, value in _extras(record).items() if not name.startswith("k8s_"))
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}{fields}"
        line = line.replace("\r", "\\r").replace("\n", "\\n")  # messages of webhooks may contain line breaks
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up(*, style: str, level: str) -> None:
    """Send every log line of the process to standard error in one style (`text` or `json`)."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("kopf", "aiohttp", "urllib3", "asyncio", "prometheus_api_client"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # They warn at each start that kopf's thread receives no signals (the main thread handles them), and report kopf's
    # end in two tracebacks, for which we log one line.
    for part in ("running", "orchestration"):
        logging.getLogger(f"kopf._core.reactor.{part}").setLevel(logging.CRITICAL)
