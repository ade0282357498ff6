"""What a person sees while a run goes on: one line in place on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

PLAIN_SECONDS = 5.0  # between plain lines, apart from the first, evaluations and the last


def describe(record: Mapping[str, Any], steps: int) -> str:
    """``step 20/200  loss 3.214  bpb 4.51  lr 1.0e-03  1.2k tok/s  x over 0.1% under 2.3%``."""
    parts = [f"step {record['step']}/{steps}"]
    if "loss" in record:
        parts.append(f"loss {record['loss']:.4f}")
    valid = record.get("valid", {})
    for key, label in (("bits_per_byte", "valid bpb"), ("bits_per_token", "valid bpt"), ("accuracy", "valid acc")):
        if key in valid:
            parts.append(f"{label} {valid[key]:.4f}")
    if "lr" in record:
        parts.append(f"lr {record['lr']:.1e}")
    if record.get("tokens_per_s"):
        parts.append(f"{record['tokens_per_s']:,.0f} tok/s")
    if record.get("loss_scale", 1.0) != 1.0:
        parts.append(f"scale {record['loss_scale']:g}")
    for name, share in record.get("quantizers", {}).items():
        parts.append(f"{name} over {share['overflowed']:.2%} under {share['underflowed']:.2%}")
    if record.get("skipped"):
        parts.append("SKIPPED")
    return "  ".join(parts)


class Progress:
    """Shows records. `quiet` shows nothing; notes always go to stderr."""

    def __init__(self, label: str, steps: int, *, quiet: bool = False) -> None:
        self.label, self.steps, self.quiet = label, steps, quiet
        self._last = 0.0
        self._live: Any = None

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stdout.isatty():
            from rich.console import Console
            from rich.status import Status

            self._console = Console()
            self._live = Status(f"{self.label}: starting", console=self._console)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def begin(self, text: str) -> None:
        """The first line: what is about to be trained."""
        if not self.quiet:
            print(f"{self.label}: {text}", flush=True)

    def show(self, record: Mapping[str, Any]) -> None:
        """One record; on a terminal it replaces the line, evaluations stay."""
        if self.quiet:
            return
        line = f"{self.label}: {describe(record, self.steps)}"
        lasting = "valid" in record or record["step"] == self.steps or record.get("skipped")
        if self._live is not None:
            if lasting:
                self._console.print(line, highlight=False, markup=False)
            self._live.update(line.replace("[", "\\["))
            return
        if lasting or time.monotonic() - self._last >= PLAIN_SECONDS:
            print(line, flush=True)
            self._last = time.monotonic()

    def note(self, text: str) -> None:
        """Something that happened: a resume, a skipped update, a checkpoint that had to be passed over."""
        print(f"{self.label}: {text}", file=sys.stderr, flush=True)
