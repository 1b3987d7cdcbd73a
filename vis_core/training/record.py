"""What a person reads of a training run: `metrics.csv`, `evaluations.csv` and `curves.png`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from vis_core.errors import UsageError
from vis_core.store.folder import Folder

METRICS = "metrics.csv"
EVALUATIONS = "evaluations.csv"
CURVES = "curves.png"
_SMOOTH = 50  # a curve is averaged over a so-manieth of its length
_MOST_POINTS = 2000  # of a curve; more cost time and are not seen
_NOT_LOSSES = ("step", "lr", "grad_norm", "images_per_second", "data_wait")


class Table:
    """Rows by step, kept in memory and written whole: a file is never half a line."""

    def __init__(self, folder: Folder, name: str, *, before: int) -> None:
        """Rows of steps from `before` on are forgotten: they will come again."""
        self._folder, self._name = folder, name
        self.rows: list[dict[str, float]] = []
        if folder.exists(name):
            self.rows = [row for row in self._read() if row["step"] < before]
        self._written = len(self.rows)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append({"step": step, **values})

    def write(self) -> None:
        if self._written == len(self.rows):
            return
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _short(value) for key, value in row.items()} for row in self.rows)
        self._folder.replace(self._name, text.getvalue().encode())
        self._written = len(self.rows)

    def _read(self) -> list[dict[str, float]]:
        text = self._folder.read(self._name).decode()
        try:
            return [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(io.StringIO(text))
            ]
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{self._folder.root}/{self._name} is damaged ({error}); delete it to go on"
            ) from error


def _short(value: float) -> str:
    """Exact for float32, and no longer than it must be."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.9g}"


def draw_curves(
    folder: Folder,
    metrics: Sequence[Mapping[str, float]],
    evaluations: Sequence[Mapping[str, float]],
) -> None:
    """Loss terms above, the evaluation below."""
    from matplotlib.figure import Figure  # half a second to import

    if not metrics:
        return
    figure = Figure(figsize=(9, 6 if evaluations else 4), layout="constrained")
    axes = figure.subplots(2 if evaluations else 1, 1, squeeze=False)[:, 0]
    steps = [row["step"] for row in metrics]
    thin = 1 + len(steps) // _MOST_POINTS
    names = [key for key in metrics[-1] if key not in _NOT_LOSSES]
    for name in names:
        values = _smoothed([row.get(name, float("nan")) for row in metrics])
        axes[0].plot(
            steps[::thin], values[::thin], label=name, linewidth=2 if name == "loss" else 1
        )
    axes[0].set_yscale("log")
    axes[0].set_xlabel("step")
    axes[0].legend(fontsize="small")
    if evaluations:
        for name in (key for key in evaluations[-1] if key != "step"):
            axes[1].plot(
                [row["step"] for row in evaluations],
                [row.get(name, float("nan")) for row in evaluations],
                marker="o",
                markersize=3,
                label=name,
            )
        axes[1].set_xlabel("step")
        axes[1].legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    folder.replace(CURVES, buffer.getvalue())


def _smoothed(values: Sequence[float]) -> list[float]:
    """A running mean over the last few; the raw ones are in the table."""
    window = max(1, len(values) // _SMOOTH)
    sums, found = 0.0, []
    for position, value in enumerate(values):
        sums += value
        if position >= window:
            sums -= values[position - window]
        found.append(sums / min(position + 1, window))
    return found
