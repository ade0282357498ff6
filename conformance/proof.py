"""What a proof says: what was tried, whether that was everything, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lpref.conformance.targets.base import CastCase
from lpref.ref.errors import SpecError


class Verdict:
    """How a proof ended, from the `failures` counted and from whether it is `complete`."""

    failures: int
    note: str

    @property
    def complete(self) -> bool:
        """Whether everything of the mode was tried."""
        raise NotImplementedError

    @property
    def passed(self) -> bool:
        """No failure, and nothing left to try."""
        return self.failures == 0 and self.complete

    @property
    def outcome(self) -> str:
        """passed | FAILED | not finished."""
        return "passed" if self.passed else "FAILED" if self.failures else "not finished"

    def __bool__(self) -> bool:
        return self.passed

    def told(self, head: str, more: str, first: str) -> str:
        """The outcome with `head`, then what is not empty of `more`, the note, and the failures with the first of them; a line each."""
        failed = f"{self.failures} differ; the first: {first}" if self.failures else ""
        return "\n  ".join(filter(None, [f"{self.outcome}  {head}", more, self.note, failed]))


@dataclass(frozen=True)
class Proof(Verdict):
    """What was tried, and what came of it. `mode`: all | stratified; `complete`: the whole of that was tried, within the budget."""

    target: str
    version: str
    case: CastCase
    mode: str
    inputs: int  # tried, the refused ones among them
    total: int  # what a complete run of this mode tries
    refused: int  # inputs that the definition refuses: not compared
    failures: int
    first: (
        dict[str, Any] | None
    )  # the first counter-example: input, got, expected, as text; pattern and word as integers
    seconds: float
    rate: float  # inputs per second, comparison included
    words: tuple[int, ...] = ()
    note: str = ""
    examples: tuple[tuple[int, int | None], ...] = ()  # (pattern, word) of the first counter-examples, at most one of every 2^20 inputs

    @property
    def complete(self) -> bool:
        """Whether all inputs of the mode were tried."""
        return self.inputs == self.total

    def to_json(self) -> dict[str, Any]:
        """Plain data, `from_json` reads it."""
        return {"lpref_proof": 1, **asdict(self), "complete": self.complete, "passed": self.passed}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Proof:
        """The proof that `to_json` wrote.

        Raises: SpecError for data of another version.
        """
        if data.get("lpref_proof") != 1:
            raise SpecError(
                [f"lpref_proof: {data.get('lpref_proof')!r}, this version reads 1"], where="Proof.from_json"
            )
        own = {k: v for k, v in data.items() if k not in ("lpref_proof", "complete", "passed")}
        examples = tuple((pattern, word) for pattern, word in data.get("examples", ()))
        return Proof(**{**own, "case": CastCase(**data["case"]), "words": tuple(data["words"]), "examples": examples})

    def __str__(self) -> str:
        share = "all" if self.mode == "all" else "stratified:"
        what = f"{share} {self.inputs} float32 inputs" if self.complete else f"{self.inputs} of {self.total} float32 inputs ({self.mode})"
        words = f"words {', '.join(hex(w) for w in self.words)}, each a pass over the inputs" if self.words else ""
        refused = f"{self.refused} left out: the definition refuses them" if self.refused else ""
        return self.told(
            f"{self.target} {self.version}, {self.case}: {what}, {self.seconds:.1f} s, {self.rate / 1e6:.0f} Melem/s",
            "\n  ".join(filter(None, [words, refused])), self.first["text"] if self.first else "",
        )  # fmt: skip


@dataclass(frozen=True)
class BlockProof(Verdict):
    """What was tried: amax -> scale code (`mode` all | stratified), and pairs of scale code and bfloat16 element.

    examples   the first failures, at most one a step: {part: scale | element, text, block: the block's numbers in hexadecimal}
    """

    target: str
    version: str
    quantizer: str
    tensor_amax: float | None
    mode: str
    amax_tried: int
    amax_total: int
    pairs_tried: int
    pairs_total: int
    failures: int
    examples: tuple[dict[str, Any], ...]
    seconds: float
    note: str = ""

    @property
    def complete(self) -> bool:
        """Whether all of the mode's amax, and all pairs, were tried."""
        return self.amax_tried == self.amax_total and self.pairs_tried == self.pairs_total

    @property
    def first(self) -> str:
        """The first failure in words, empty where there is none."""
        return str(self.examples[0]["text"]) if self.examples else ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"lpref_block_proof": 1, **asdict(self), "complete": self.complete, "passed": self.passed, "first": self.first}

    def __str__(self) -> str:
        amax = f"{self.amax_tried} of {self.amax_total} amax ({self.mode})"
        pairs = f"{self.pairs_tried}{'' if self.pairs_tried == self.pairs_total else f' of {self.pairs_total}'} pairs of scale and element"
        under = f"under a tensor amax of {self.tensor_amax!r}" if self.tensor_amax is not None else ""
        return self.told(f"{self.target} {self.version}, {self.quantizer}: {amax}, {pairs}, {self.seconds:.1f} s", under, self.first)
