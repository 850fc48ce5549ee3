"""What a measurement comes to: a figure of ours beside a peer's, held against a goal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from rich.table import Table


class Better(Enum):
    """Which way a figure improves."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True)
class Goal:
    """What a figure should reach."""

    bound: float
    of_ratio: bool = False
    """The bound is for the ratio to the peer, not for our figure itself."""


@dataclass(frozen=True)
class Figure:
    """One line of the report."""

    name: str
    unit: str
    better: Better
    ours: float
    peer: float | None = None
    peer_name: str | None = None
    goal: Goal | None = None
    runs: tuple[float, ...] = ()
    """Our single runs, of which ``ours`` is the median."""
    peer_runs: tuple[float, ...] = ()
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Tell how many times as good as the peer we are: above 1 we win, whatever the unit."""
        if not self.peer or not self.ours:
            return None
        higher = self.better is Better.HIGHER
        return self.ours / self.peer if higher else self.peer / self.ours

    @property
    def fulfilment(self) -> float | None:
        """Tell which part of the goal is reached: 1 or more is all of it."""
        if self.goal is None:
            return None
        if self.goal.of_ratio:
            return None if self.ratio is None else self.ratio / self.goal.bound
        if self.better is Better.HIGHER:
            return self.ours / self.goal.bound
        return self.goal.bound / self.ours if self.ours else 1.0

    @property
    def verdict(self) -> str:
        """Say whether the goal is reached, or by how much it is missed."""
        part = self.fulfilment
        if self.goal is None:
            return ""
        if part is None:
            return "not measured"
        return "reached" if part >= 1 else f"short by {1 - part:.0%}"

    def document(self) -> dict[str, Any]:
        """Give the figure as JSON values."""
        return {
            "name": self.name,
            "unit": self.unit,
            "better": self.better.value,
            "ours": self.ours,
            "peer": self.peer,
            "peer_name": self.peer_name,
            "ratio": self.ratio,
            "goal": None if self.goal is None else self.goal.bound,
            "goal_of": None if self.goal is None else ("ratio" if self.goal.of_ratio else "ours"),
            "verdict": self.verdict,
            "runs": list(self.runs),
            "peer_runs": list(self.peer_runs),
            "note": self.note,
        }


def write_figures(path: Path, figures: Sequence[Figure]) -> None:
    """Write all figures as one JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([figure.document() for figure in figures], indent=1) + "\n")


def figures_table(figures: Sequence[Figure]) -> Table:
    """Give the report for people."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("measured", "ours", "peer", "", "ratio", "goal", ""):
        table.add_column(title, justify="right" if title in ("ours", "peer", "ratio") else "left")
    for figure in figures:
        table.add_row(
            figure.name,
            _number(figure.ours, figure.unit),
            _number(figure.peer, figure.unit),
            figure.peer_name or "",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            _goal(figure),
            _verdict(figure),
        )
    return table


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}".rstrip()


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    if figure.goal.of_ratio:
        return f"≥ {figure.goal.bound:g} x peer"
    sign = "≥" if figure.better is Better.HIGHER else "≤"
    return f"{sign} {figure.goal.bound:g} {figure.unit}".rstrip()


def _verdict(figure: Figure) -> str:
    colour = "green" if figure.verdict == "reached" else "yellow"
    told = f"[{colour}]{figure.verdict}[/]" if figure.verdict else ""
    return " ".join(
        part for part in (told, f"[dim]{figure.note}[/]" if figure.note else "") if part
    )
