"""YAML in: scalars of YAML 1.2, and a typed error with the line for everything that a spec must not be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpref.ref.errors import SpecError
from lpref.ref.recipes.text import dump
from lpref.specs.reading import MAX_BYTES, MAX_DEPTH, parse, parse_value, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E5", 1e5), ("-.5", -0.5), ("3.", 3.0), ("+7", 7), ("0x10", 16), ("0o17", 15), ("010", 10), (".inf", math.inf),
        ("true", True), ("FALSE", False), ("yes", "yes"), ("on", "on"), ("1:30", "1:30"), ("2001-01-01", "2001-01-01"), ("1_000", "1_000"),
        ("~", None), ("", None), ("null", None), ("'1'", "1"), ("e4m3", "e4m3"), ("1e", "1e"), ("-", [None]), ("18446744073709551615", 2**64 - 1),
        ("[1, {a: none}]", [1, {"a": "none"}]),
    ],
)  # fmt: skip
def test_scalars(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "line 2, column 1: the field 'a' stands twice"),
        ("x: {b: 1, c: 2, b: 3}", "the field 'b' stands twice"),
        ("1: 2", "a field name must be text, not '1'"),
        ("? [a]\n: 2", "a field name must be text, not 'a collection'"),
        ("a: &x 1\nb: *x", "line 1: anchors and aliases are not part of a spec"),
        ("b: *x", "anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
        ("a: 99999999999999999999999", "does not fit in 64 bits"),
        ("a: " + "9" * 5000, "does not fit in 64 bits"),
        ("a: -9223372036854775809", "does not fit in 64 bits"),
        ("a: 1\n---\nb: 2", "line 2: a second document"),
        ("- 1", "a spec is a mapping of fields, this is list"),
        ("", "a spec is a mapping of fields, this is nothing"),
        ("a: [1", "line 1"),
        ("a:\n\t- 1", "line 2"),
        ("a: \x07", "not valid YAML"),
        ("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH}"),
        ("a: " + "[" * 100_000, f"nested deeper than {MAX_DEPTH}"),
        ("a: [" + "1," * 60_000 + "]", "more than 50000 values"),
        ("a: " + "x" * MAX_BYTES, "a spec has at most"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text, "file.yaml")
    assert message in str(caught.value)
    assert caught.value.where == "file.yaml"


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbflpref: 1\n")
    assert read_text(tmp_path / "a.yaml") == "lpref: 1\n"
    (tmp_path / "b.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(SpecError, match="not UTF-8: byte 6 is 0xff"):
        read_text(tmp_path / "b.yaml")
    with pytest.raises(SpecError, match=r"no such file; the folder holds a.yaml, b.yaml"):
        read_text(tmp_path / "c.yaml")
    with pytest.raises(SpecError, match="is a folder"):
        read_text(tmp_path)
    with pytest.raises(SpecError, match="cannot be read"):
        read_text("a\0b.yaml")
    (tmp_path / "d.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SpecError, match="a spec has at most"):
        read_text(tmp_path / "d.yaml")


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
NAMES = st.text(min_size=1)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12)


@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_what_is_written_reads_back(value: dict) -> None:
    """Every mapping of plain values, with the bits of its numbers."""
    assert parse(dump(value)) == value if value else dump(value) == "{}\n"
