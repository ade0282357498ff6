"""The prose of recipe pages: one shape for all."""

from __future__ import annotations

import pytest

from lpref.ref.errors import SpecError
from lpref.specs import RECIPE, recipe
from lpref.specs.page import LABELS, prose_of, recipe_prose


@pytest.mark.parametrize("name", RECIPE.names())
def test_a_recipe_page_says_everything(name: str) -> None:
    prose, made = recipe_prose(name), recipe(name)
    assert tuple(prose) == LABELS
    assert all(prose.values()), f"{name}: write none where there is nothing to say"
    assert made.family
    assert made.title
    assert made.source
    assert made.executable


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("# State: none\n", ""), "the page has Equations, Operands, Gradient, Schedule"),
        (("# Equations: none\n", "# Equations: none\n# y = x\n"), "'# y = x' belongs to no label"),
        (("# Equations: none\n# Operands: none\n", "# Operands: none\n# Equations: none\n"), "the page has Operands, Equations"),
    ],
)
def test_another_shape_is_refused(change: tuple[str, str], complaint: str) -> None:
    text = "".join(f"# {label}: none\n" for label in LABELS)
    with pytest.raises(SpecError, match=complaint.replace("(", r"\(")):
        prose_of(text.replace(*change), "recipe x")
