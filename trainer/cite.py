"""``lpref cite``: where a definition comes from."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from lpref.trainer.catalog import find

SOFTWARE = """\
@software{{lpref,
  title = {{lpref: low-precision reference}},
  version = {{{version}}},
  note = {{numerics {numerics}}},
}}"""


def cite(name: str) -> str:
    """The sources of a format, quantizer, recipe or optimizer; of ``lpref`` a BibTeX entry with version and numerics hash."""
    if name == "lpref":
        import lpref
        from lpref.conformance.numerics import numerics_hash

        return SOFTWARE.format(version=lpref.__version__, numerics=numerics_hash())
    kind, thing = find(name)
    own = getattr(thing, "standard", "") or getattr(thing, "source", "")
    lines = [f"{kind} {getattr(thing, 'name', '') or name}, revision {getattr(thing, 'revision', 1)}"]
    lines += [own] if own else []
    lines += sources(thing)
    return "\n".join(dict.fromkeys(lines))


def sources(thing: Any) -> list[str]:
    """The ``Source:`` paragraph of the page that defines `thing`."""
    module = getattr(thing, "module", "") or (thing.__module__ if inspect.isclass(thing) else "")
    text = inspect.cleandoc(sys.modules[module].__doc__ or "") if module in sys.modules else ""
    start = text.find("Source:")
    if start < 0:
        return []
    paragraph = text[start:].split("\n\n", 1)[0]
    return [" ".join(paragraph.removeprefix("Source:").split())]
