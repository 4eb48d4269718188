"""What gunicorn has to say, in our log."""

from __future__ import annotations

import logging

from gunicorn.config import Config
from gunicorn.glogging import Logger

from pexpolicy.logs import console_log


class _Passed(logging.Handler):
    """Passes records on."""

    def __init__(self) -> None:
        super().__init__()
        self._log = console_log()

    def emit(self, record: logging.LogRecord) -> None:
        self._log.warning(record.getMessage())


class ArbiterLog(Logger):
    """gunicorn's logger, without a format and a place of its own."""

    def setup(self, cfg: Config) -> None:
        """Send the messages to our log, in the place of standard error."""
        super().setup(cfg)
        self.error_log.handlers = [_Passed()]
