"""`Readings`: what the quantizers of a captured step observed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lpref.accel.cuda import qtensor


class Readings(Mapping[str, Any]):
    """Observations of a step that is over, made from copies of the counters when they are asked for."""

    def __init__(self, observed: Mapping[str, Sequence[Any]], pages: Mapping[Any, np.ndarray]) -> None:
        self._observed, self._pages = observed, pages

    def __getitem__(self, place: str) -> list[Mapping[str, Any]]:
        return [one.read_in(self._pages) if isinstance(one, qtensor.Observed) else one for one in self._observed[place]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._observed)

    def __len__(self) -> int:
        return len(self._observed)
