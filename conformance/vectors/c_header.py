"""The vectors of casts as one C99 header: inputs as hexadecimal uint32, expected codes, and a table of the sets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lpref.conformance.vectors.files import VectorSet

HEAD = """/* Conformance vectors of lpref (version 1), generated; see docs/vectors.md. SPDX-License-Identifier: CC0-1.0
   A set passes if cast(in[i]) == out[i] for all i; where out[i] is one of the nan codes, any of them will do.
   Stochastic sets: the cast of in[i] under the random word word[i]; others have word == NULL. */
#ifndef LPREF_VECTORS_H
#define LPREF_VECTORS_H
#include <stddef.h>
#include <stdint.h>
#define LPREF_VECTORS_VERSION 1
typedef struct {
    const char *format, *rounding, *overflow;
    int revision, code_bits, word_bits;
    size_t count, nan_count;
    const uint32_t *in, *word;
    const uint16_t *out, *nan;
} lpref_vectors;
"""


def header(sets: Sequence[VectorSet]) -> str:
    """The text of `lpref_vectors.h`."""
    parts, rows = [HEAD], []
    for s in sets:
        h, name = s.header, re.sub(r"\W", "_", s.name)
        parts.append(array("uint32_t", f"{name}_in", [str(c["in"]) for c in s.cases]))
        parts.append(array("uint16_t", f"{name}_out", [str(c["out"]) for c in s.cases]))
        words = [str(c["word"]) for c in s.cases if "word" in c]
        parts.append(array("uint32_t", f"{name}_word", words) if words else "")
        parts.append(array("uint16_t", f"{name}_nan", h["nan_codes"]) if h["nan_codes"] else "")
        rows.append(
            f'    {{"{h["subject"]}", "{h["rounding"]}", "{h["overflow"]}", {h["revision"]}, {h["code_bits"]}, {h.get("word_bits", 0)}, '
            f"{len(s.cases)}, {len(h['nan_codes'])}, {name}_in, {f'{name}_word' if words else 'NULL'}, {name}_out, "
            f"{f'{name}_nan' if h['nan_codes'] else 'NULL'}}},\n"
        )
    parts.append("static const lpref_vectors LPREF_VECTORS[] = {\n" + "".join(rows) + "};\n")
    parts.append(f"enum {{ LPREF_VECTORS_COUNT = {len(rows)} }};\n#endif\n")
    return "".join(parts)


def array(kind: str, name: str, values: Sequence[str]) -> str:
    """One constant array, twelve values a line."""
    lines = [",".join(values[i : i + 12]) for i in range(0, len(values), 12)]
    return f"static const {kind} {name}[{len(values)}] = {{\n" + ",\n".join(lines) + "};\n"
