"""The small set in `data/`: enough to try an implementation without running lpref. `python -m lpref.conformance.vectors.shipped` writes it anew."""

from __future__ import annotations

from pathlib import Path

from lpref.conformance.vectors.export import export

DATA = Path(__file__).parent / "data"
FORMATS = ("e4m3", "e5m2", "e2m1", "e2m3", "e3m2", "e8m0", "ue4m3", "int8", "nf4")
QUANTIZERS = ("mxfp4", "mxfp8_e4m3", "nvfp4")
MODELS = ("exact", "sequential", "pairwise", "bf16_chunk64", "int16_wrap", "int16_saturate", "ampere_fp16", "hopper_fp8_promote128")
MAX_CASES = 512


def write(folder: Path = DATA) -> list[Path]:
    """The set, as JSONL: casts to nearest even, saturating, block quantizers, and matrix products."""
    return export(folder, formats=FORMATS, quantizers=QUANTIZERS, models=MODELS, max_cases=MAX_CASES, policies=(("nearest_even", "saturate"),))


if __name__ == "__main__":
    for path in write():
        print(path)
