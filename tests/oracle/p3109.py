"""P3109, from the report's sec. 4: decode, round to precision, saturate; one number at a time. Infinities are strings."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .scaling import floor_log2
from .table import F, Table

Real = Fraction | str  # a fraction, "inf", "-inf" or "nan"


@dataclass(frozen=True)
class Binary:
    """BinaryKpP with signedness and domain."""

    K: int
    P: int
    signed: bool
    extended: bool

    @property
    def name(self) -> str:
        return f"p3109_{self.K}p{self.P}{'s' if self.signed else 'u'}{'e' if self.extended else 'f'}"

    @property
    def B(self) -> int:
        return 2 ** (self.K - self.P - 1) if self.signed else 2 ** (self.K - self.P)

    @property
    def nan(self) -> int:
        return 2 ** (self.K - 1) if self.signed else 2**self.K - 1

    @property
    def inf(self) -> int | None:
        return (2 ** (self.K - 1) - 1 if self.signed else 2**self.K - 2) if self.extended else None

    def positive(self, c: int) -> Fraction:
        """The value that the fields of a magnitude code mean, special or not."""
        T, E = c % 2 ** (self.P - 1), c // 2 ** (self.P - 1)
        unit = F(2) ** (1 - self.P)
        return T * unit * F(2) ** (1 - self.B) if E == 0 else (1 + T * unit) * F(2) ** (E - self.B)

    def decode(self, c: int) -> Real:
        if c == self.nan:
            return "nan"
        if c == self.inf:
            return "inf"
        if self.signed and self.extended and c == 2**self.K - 1:
            return "-inf"
        return -self.positive(c - 2 ** (self.K - 1)) if self.signed and c > 2 ** (self.K - 1) else self.positive(c)

    @property
    def top(self) -> int:
        """The code of the largest finite value."""
        return (self.inf or (self.nan if not self.signed else 2 ** (self.K - 1))) - 1

    def encode(self, v: Real) -> int:
        """The code of a datum."""
        if isinstance(v, str):
            code = {"nan": self.nan, "inf": self.inf, "-inf": 2**self.K - 1}[v]
            assert code is not None
            return code
        if v < 0:
            return self.encode(-v) + 2 ** (self.K - 1)
        E = max(floor_log2(v), 1 - self.B) if v else 1 - self.B
        S = v * F(2) ** (self.P - 1 - E)
        assert S.denominator == 1
        return int(S) if S < 2 ** (self.P - 1) else int(S) % 2 ** (self.P - 1) + (E + self.B) * 2 ** (self.P - 1)

    def round(self, X: Fraction, mode: str, N: int = 0, R: int = 0) -> Fraction:
        """RoundToPrecision of a finite X."""
        if X == 0:
            return X
        Q = max(floor_log2(abs(X)), 1 - self.B) - self.P + 1
        scaled = abs(X) / F(2) ** Q
        whole = scaled.__floor__()
        nu = scaled - whole
        even = whole % 2 == 0 if self.P > 1 else whole == 0 or (Q + self.B) % 2 == 0
        away = {
            "toward_zero": False,
            "toward_positive": nu > 0 and X > 0,
            "toward_negative": nu > 0 and X < 0,
            "nearest_away": nu >= F(1, 2),
            "nearest_even": nu > F(1, 2) or (nu == F(1, 2) and not even),
            "to_odd": nu > 0 and even,
            "stochastic": (nu * 2**N).__floor__() + R >= 2**N,
            "stochastic_b": (nu * 2 ** (N + 1)).__floor__() + 2 * R + 1 >= 2 ** (N + 1),
            "stochastic_c": round(nu * 2**N) + R >= 2**N,
        }[mode]
        return (1 if X > 0 else -1) * (whole + away) * F(2) ** Q

    def round_each(self, x: np.ndarray, mode: str) -> np.ndarray:
        """`round` of every float64 in x (deterministic modes), in float64: every step here is exact."""
        exponent = np.where(x == 0, 1 - self.B, np.frexp(x)[1].astype(np.int64) - 1)
        Q = np.maximum(exponent, 1 - self.B) - self.P + 1
        scaled = np.ldexp(np.abs(x), -Q)
        whole = np.floor(scaled)
        nu = scaled - whole
        even = whole % 2 == 0 if self.P > 1 else (whole == 0) | ((Q + self.B) % 2 == 0)
        away = {
            "toward_zero": np.zeros(x.shape, bool),
            "toward_positive": (nu > 0) & (x > 0),
            "toward_negative": (nu > 0) & (x < 0),
            "nearest_away": nu >= 0.5,
            "nearest_even": (nu > 0.5) | ((nu == 0.5) & ~even),
            "to_odd": (nu > 0) & even,
        }[mode]
        rounded = np.copysign(np.ldexp(whole + away, Q), x) + 0.0
        assert np.isfinite(rounded).all()
        return rounded

    def saturate(self, sat: str, mode: str, X: Real) -> Real:
        """The report's rules in its order."""
        hi = self.positive(self.top)
        lo = -hi if self.signed else F(0)
        if X == "nan" or (isinstance(X, Fraction) and lo <= X <= hi):
            return X
        above = X == "inf" or (isinstance(X, Fraction) and X > hi)
        end = hi if above else lo
        if sat == "p3109_sat_finite":
            return end
        infinite = isinstance(X, str)
        if above:
            if infinite:
                return "inf" if self.extended else hi
            if sat == "p3109_sat_propagate":
                return hi
            if mode == "to_odd" and not self.signed and self.extended:
                return hi
            return hi if mode in ("toward_zero", "toward_negative") or not self.extended else "inf"
        if infinite and self.signed and self.extended:
            return "-inf"
        if sat == "p3109_sat_propagate":
            return lo
        if not infinite and mode in ("toward_zero", "toward_positive"):
            return lo
        if not self.signed:
            return "nan"
        return "-inf" if self.extended and not infinite else lo

    def project(self, X: Real, mode: str, sat: str, N: int = 0, R: int = 0) -> int:
        return self.encode(self.saturate(sat, mode, X if isinstance(X, str) else self.round(X, mode, N, R)))

    def table(self) -> Table:
        """For the tests of all formats; one more step beyond the ends shows where overflow begins."""
        values: list[tuple[Fraction, int | None]] = [(self.positive(c), c) for c in range(self.top + 1)]
        values.append((self.positive(self.top + 1), None))
        half = 2 ** (self.K - 1)
        below = [(-v, c + half if self.signed and c is not None else None) for v, c in values[1:]]
        minus_inf = 2**self.K - 1 if self.signed and self.extended else None
        codes = {c: self.decode(c) for c in range(2**self.K)}
        return Table(
            self.name, "even", below[::-1] + values, self.nan, self.inf, minus_inf, signed=self.signed, codes=codes
        )


def binary(name: str) -> Binary:
    """p3109_8p3se."""
    k, p = name[6:-2].split("p")
    return Binary(int(k), int(p), name[-2] == "s", name[-1] == "e")


def family(bits: int) -> list[Binary]:
    """Every format of this width."""
    return [Binary(bits, p, s, e) for s in (True, False) for p in range(1, bits + (not s)) for e in (True, False)]
