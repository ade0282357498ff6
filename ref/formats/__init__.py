"""Number formats: what a code means. One page (module) per family, one literal registry.

>>> format("float8_e4m3fn").name, format("e5m10_ieee").max
('e4m3', 65504.0)
>>> format("e4m33")
Traceback (most recent call last):
...
lpref.ref.errors.UnknownNameError: unknown format 'e4m33'; did you mean 'e4m3' or 'ue4m3' or 'e4m3fn'?
"""

from lpref.ref.formats.base import Format
from lpref.ref.formats.codebook import CodebookFormat
from lpref.ref.formats.complex_quartic import VectorFormat
from lpref.ref.formats.fixed import FixedFormat
from lpref.ref.formats.floats import FloatFormat, exmy
from lpref.ref.formats.integers import IntFormat
from lpref.ref.formats.names import ALIASES, FORMATS, VECTOR_FORMATS, format, vector_format

__all__ = [
    "ALIASES",
    "FORMATS",
    "VECTOR_FORMATS",
    "CodebookFormat",
    "FixedFormat",
    "FloatFormat",
    "Format",
    "IntFormat",
    "VectorFormat",
    "exmy",
    "format",
    "vector_format",
]
