"""Inputs that matter for a format: values, midpoints, their float32 and float64 neighbours, the edges, the extremes."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np

from .table import Table


def neighbours(points: np.ndarray, dtype: type) -> np.ndarray:
    """Each point (rounded to dtype) and the two dtype values around it, as float64."""
    points = points[np.abs(points) < (2.0**127.9 if dtype is np.float32 else 2.0**1023)].astype(dtype)
    around = [np.nextafter(points, dtype(-np.inf)), points, np.nextafter(points, dtype(np.inf))]
    return np.concatenate(around).astype(np.float64)


def critical(table: Table, step: int = 1) -> np.ndarray:
    """float64 inputs around every `step`-th value and midpoint of the table (virtual neighbours included)."""
    values = [v for v, _ in table.values]
    points = values[::step] + [(a + b) / 2 for a, b in pairwise(values)][::step]
    points += values[:3] + values[-3:] + [(values[0] + values[1]) / 2, (values[-1] + values[-2]) / 2]
    points += (table.middles or [])[::step]
    exact = np.array([float(p) for p in points])
    extremes = np.array([0.0, 2.0**-149, 2.0**-127, 1.1 * 2.0**-127, 2.0**-1074, 3.0e38, 3.4028234663852886e38, 1e300])
    low = np.concatenate([neighbours(exact, np.float32), neighbours(exact, np.float64), extremes, -extremes])
    quarter = np.array([float(a + (b - a) * Fraction(3, 16)) for a, b in pairwise(values)][::step])
    out = np.concatenate([low, quarter])
    return np.unique(out[np.isfinite(out)]) + 0.0  # a fraction has no -0: those have tests of their own
