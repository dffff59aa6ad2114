"""`losses.csv`: what DVC plots, one row per `log_every` steps, each the mean since the row before.

The file is appended to while training runs and rewritten on resume, so a stopped and resumed run leaves the same bytes
as an undisturbed one. No times: they would differ from run to run.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS_BEFORE, COLUMNS_AFTER = ("step",), ("total", "grad_norm", "lr")


class LossLog:
    """Gathers the losses of steps and writes rows; `state` is all it takes to go on."""

    def __init__(self, path: Path, every: int, state: Mapping[str, Any] | None = None) -> None:
        self.path, self.every = path, every
        self.text: str = state["text"] if state else ""
        self.pending: dict[str, float] = dict(state["pending"]) if state else {}
        self.count: int = state["count"] if state else 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text, encoding="utf-8")

    def state(self) -> dict[str, Any]:
        """JSON-ready: the text so far and the sums of steps that have no row yet."""
        return {"text": self.text, "pending": dict(self.pending), "count": self.count}

    def add(self, step: int, values: Mapping[str, float] | None, lr: float) -> None:
        """Take in step `step` (counted from 1), None for one that was left out; a multiple of `every` writes a row.

        `values` are the losses, their "total" and "grad_norm". Where all steps of a row were left out there is no row.
        """
        for name, value in (values or {}).items():
            self.pending[name] = self.pending.get(name, 0.0) + value
        self.count += values is not None
        if step % self.every == 0 and self.count:
            means = {name: total / self.count for name, total in self.pending.items()}
            self._append(step, means, lr)
            self.pending, self.count = {}, 0

    def _append(self, step: int, means: Mapping[str, float], lr: float) -> None:
        rows: list[list[Any]] = []
        if not self.text:
            names = [name for name in means if name not in COLUMNS_AFTER]
            rows.append([*COLUMNS_BEFORE, *names, *COLUMNS_AFTER])
        rows.append([step, *(f"{value:.6e}" for value in means.values()), f"{lr:.6e}"])
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        self.text += buffer.getvalue()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(buffer.getvalue())
