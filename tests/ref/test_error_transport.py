"""Errors come out of another process as they went in."""

from __future__ import annotations

import pickle

import pytest

from lpref.ref import errors


@pytest.mark.parametrize(
    "error",
    [
        errors.UnknownNameError("figure", "luck", ["bias", "variance"], where="here"),
        errors.SpecError(["one", "two"], where="file.yaml", remedy="mend it"),
        errors.LprefError("message", where="here", remedy="do"),
    ],
)
def test_an_error_crosses_processes_whole(error: errors.LprefError) -> None:
    made = pickle.loads(pickle.dumps(error))
    assert type(made) is type(error)
    assert str(made) == str(error)
    assert vars(made) == vars(error)
