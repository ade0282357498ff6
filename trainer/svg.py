"""Small charts as SVG text: lines with bands, and bars. No dependency, no script; the same input gives the same bytes."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

PALETTE = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f7f7f",
    "#b8a900",
)  # Okabe and Ito, tellable apart by all
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 30, 42


@dataclass(frozen=True)
class Series:
    """A line: points whose y is not finite break it; `low` and `high` make a band around it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: bool = False


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values covering [low, high].

    >>> ticks(0, 100)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(span / s - count))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def number(value: float) -> str:
    """A tick label of at most about six characters."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


@dataclass(frozen=True)
class _Axes:
    x0: float
    x1: float
    y0: float
    y1: float
    width: int
    height: int

    def at(self, x: float, y: float) -> tuple[float, float]:
        px = LEFT + (x - self.x0) / (self.x1 - self.x0) * (self.width - LEFT - RIGHT)
        py = self.height - BOTTOM - (y - self.y0) / (self.y1 - self.y0) * (self.height - TOP - BOTTOM)
        return round(px, 1), round(py, 1)


def _range(values: list[float], pad: float) -> tuple[float, float]:
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    if low == high:
        return low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    return low - pad * (high - low), high + pad * (high - low)


def line_chart(
    series: Sequence[Series], *, title: str, x_label: str, y_label: str, width: int = 560, height: int = 300
) -> str:
    """Lines over common axes with a legend."""
    xs = [v for s in series for v in s.x]
    ys = [v for s in series for part in (s.y, s.low or (), s.high or ()) for v in part]
    (x0, x1), (y0, y1) = _range(xs, 0.0), _range(ys, 0.04)
    axes = _Axes(x0, x1, y0, y1, width, height)
    body = [_frame(axes, title, x_label, y_label)]
    for index, line in enumerate(series):
        body.extend(_line(line, PALETTE[index % len(PALETTE)], axes))
    body.append(_legend([line.label for line in series], width))
    return _wrap(body, width, height, title)


def bar_chart(
    labels: Sequence[str],
    heights: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    width: int = 560,
    height: int = 220,
) -> str:
    """Bars from zero, one per label; crowded labels are thinned out."""
    top = max([h for h in heights if math.isfinite(h)], default=1.0) or 1.0
    axes = _Axes(0.0, float(max(len(labels), 1)), 0.0, top * 1.05, width, height)
    body = [_frame(axes, title, x_label, y_label, x_ticks=False)]
    every = max(1, math.ceil(len(labels) / 16))
    for i, (label, value) in enumerate(zip(labels, heights, strict=True)):
        (left, upper), (right, lower) = axes.at(i + 0.1, value if math.isfinite(value) else 0.0), axes.at(i + 0.9, 0.0)
        body.append(
            f'<rect x="{left}" y="{upper}" width="{max(right - left, 0.5):.1f}" height="{max(lower - upper, 0):.1f}" fill="{PALETTE[0]}"/>'
        )
        if i % every == 0:
            body.append(
                f'<text x="{(left + right) / 2:.1f}" y="{height - BOTTOM + 14}" text-anchor="middle">{html.escape(label)}</text>'
            )
    return _wrap(body, width, height, title)


def _frame(axes: _Axes, title: str, x_label: str, y_label: str, x_ticks: bool = True) -> str:
    width, height = axes.width, axes.height
    parts = [f'<text x="{LEFT}" y="18" font-weight="bold">{html.escape(title)}</text>']
    for value in ticks(axes.y0, axes.y1):
        _, y = axes.at(axes.x0, value)
        parts.append(f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number(value)}</text>')
    for value in ticks(axes.x0, axes.x1, 6) if x_ticks else []:
        x, _ = axes.at(value, axes.y0)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{height - BOTTOM}" y2="{height - BOTTOM + 4}" stroke="#555"/>')
        parts.append(f'<text x="{x}" y="{height - BOTTOM + 16}" text-anchor="middle">{number(value)}</text>')
    parts.append(
        f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{height - BOTTOM}" y2="{height - BOTTOM}" stroke="#555"/>'
    )
    parts.append(
        f'<text x="{(LEFT + width - RIGHT) / 2:.0f}" y="{height - 8}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    middle = (TOP + height - BOTTOM) / 2
    parts.append(
        f'<text x="14" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 14 {middle:.0f})">{html.escape(y_label)}</text>'
    )
    return "".join(parts)


def _line(line: Series, colour: str, axes: _Axes) -> list[str]:
    parts = []
    if line.low is not None and line.high is not None:
        edge = [axes.at(x, y) for x, y in zip(line.x, line.high, strict=True) if math.isfinite(y)]
        edge += [axes.at(x, y) for x, y in reversed(list(zip(line.x, line.low, strict=True))) if math.isfinite(y)]
        parts.append(f'<polygon points="{" ".join(f"{x},{y}" for x, y in edge)}" fill="{colour}" opacity="0.18"/>')
    run: list[tuple[float, float]] = []
    dash = ' stroke-dasharray="5 3"' if line.dashed else ""
    for x, y in [*zip(line.x, line.y, strict=True), (0.0, math.nan)]:
        if math.isfinite(y):
            run.append(axes.at(x, y))
            continue
        if len(run) == 1:
            parts.append(f'<circle cx="{run[0][0]}" cy="{run[0][1]}" r="2.5" fill="{colour}"/>')
        elif run:
            points = " ".join(f"{px},{py}" for px, py in run)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        run = []
    return parts


def _legend(labels: Sequence[str], width: int) -> str:
    parts = []
    for i, label in enumerate(labels):
        y = TOP + 8 + 15 * i
        parts.append(
            f'<rect x="{width - RIGHT - 12}" y="{y - 8}" width="10" height="10" fill="{PALETTE[i % len(PALETTE)]}"/>'
        )
        parts.append(f'<text x="{width - RIGHT - 17}" y="{y + 1}" text-anchor="end">{html.escape(label)}</text>')
    return "".join(parts)


def _wrap(body: Sequence[str], width: int, height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{html.escape(title, quote=True)}" font-family="system-ui, sans-serif" font-size="11" fill="#222">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(body)}</svg>'
    )
