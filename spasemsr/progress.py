"""One progress line for the person waiting: done/total, rate and time left.

On a terminal the line is rewritten in place; elsewhere (a log, CI) one line is logged every ten seconds.
"""

import logging
import sys
import time

log = logging.getLogger(__name__)

_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 10.0


class Progress:
    """Counts units of work of one named activity; `note` is shown behind the counts (a loss, a backend)."""

    def __init__(self, name: str, total: int, done: int = 0, unit: str = "") -> None:
        self._name, self._total, self._unit = name, total, unit
        self._first, self._done = done, done
        self._start = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._line_open = False

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count finished units and show the line if it is time."""
        self._done += count
        now = time.monotonic()
        if now - self._shown < (_TERMINAL_SECONDS if self._terminal else _LOG_SECONDS):
            return
        self._shown = now
        line = self._line(now, note)
        if self._terminal:
            sys.stderr.write(f"\r\x1b[2K{line}")
            sys.stderr.flush()
            self._line_open = True
        else:
            log.info("%s", line)

    def skip(self, count: int) -> None:
        """Count units that needed no work: they are done, but say nothing about the rate."""
        self._done += count
        self._first += count

    def close(self) -> None:
        """End the line on a terminal, so that what follows starts on its own."""
        if self._line_open:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._line_open = False

    def _line(self, now: float, note: str) -> str:
        worked, elapsed = self._done - self._first, max(now - self._start, 1e-6)
        rate = worked / elapsed
        left = "?" if worked == 0 else duration((self._total - self._done) / rate)
        unit = f" {self._unit}" if self._unit else ""
        shown = f"{self._name:<10} {self._done}/{self._total}{unit} · {rate:.3g}/s · {left} left"
        return f"{shown} · {note}" if note else shown


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 10 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
