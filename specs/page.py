"""The page of a recipe: the labelled comment at the head of its YAML file, in one shape for all.

    # Equations: what is computed
    #   further lines are indented
    # Operands: which operand of which GEMM is quantized how
    …

Every label of `LABELS` stands there once, in this order; "none" where there is nothing to say.
"""

from __future__ import annotations

import re
from importlib import resources

from lpref.ref.errors import SpecError

LABELS = ("Equations", "Operands", "Gradient", "State", "Schedule", "Defaults", "Exempt", "Tails", "Deviations", "Shows")
_LABEL = re.compile(rf"# ({'|'.join(LABELS)}): *(.*)")


def recipe_text(name: str) -> str:
    """The file of a recipe that comes with the package."""
    return (resources.files("lpref.specs") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def recipe_prose(name: str) -> dict[str, str]:
    """Label -> text of a recipe's page.

    Raises: SpecError for labels that are missing, twice or in another order, and for a comment outside them.
    """
    return prose_of(recipe_text(name), f"recipe {name}")


def prose_of(text: str, where: str = "") -> dict[str, str]:
    """Label -> text of the comment that a YAML text begins with.

    >>> text = "".join(f"# {label}: none\\n" for label in LABELS)
    >>> prose_of(text.replace("Tails: none", "Tails: padded\\n#   with zeros"))["Tails"]
    'padded\\nwith zeros'
    """
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        label = _LABEL.fullmatch(line)
        if label is not None:
            found.setdefault(label[1], []).append(label[2])
        elif line.startswith("#   ") and found:
            found[list(found)[-1]].append(line[4:])
        elif "yaml-language-server" not in line:
            raise SpecError([f"{line!r} belongs to no label"], where=where, remedy="indent further lines by three spaces")
    if tuple(found) != LABELS:
        raise SpecError([f"the page has {', '.join(found) or 'no labels'}"], where=where, remedy=f"write {', '.join(LABELS)}, in this order")
    return {label: "\n".join(lines).strip() for label, lines in found.items()}
