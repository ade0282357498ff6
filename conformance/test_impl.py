"""What ``pytest --pyargs lpref.conformance --lpref-impl=module:callable`` runs: `run_suite` on each case. The page is docs/conformance.md."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lpref.conformance.suite import run_suite
from lpref.conformance.targets.base import Case, CastCase, QuantizeCase, Target
from lpref.ref.errors import LprefError

INPUTS = {"float32": "float32", "float64": "float64", "float16": "float16"}


def load(spec: str, folder: Path) -> Any:
    """The object ``module:name`` (``module:outer.inner``); `folder` is searched first. UsageError says what is missing."""
    module, colon, name = spec.partition(":")
    if not colon or not module or not name:
        raise pytest.UsageError(f"--lpref-impl={spec}: write module:callable, for example mykernels:cast")
    sys.path.insert(0, str(folder))
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(f"--lpref-impl={spec}: {error}") from error
    finally:
        sys.path.remove(str(folder))
    return found() if inspect.isclass(found) and issubclass(found, Target) else found


def cases(config: pytest.Config, implementation: Any) -> list[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """(name, callable, what `run_suite` takes) of everything that is asked for."""
    option = lambda name: config.getoption(f"--lpref-{name}")  # noqa: E731
    shared = {"canonical_nan": option("canonical-nan"), "examples": option("examples")}
    if isinstance(implementation, Target):
        chosen = [c for c in implementation.cases() if wanted(c, option)]
        if not chosen:
            raise pytest.UsageError(f"--lpref-impl: the target {implementation.name} has no such case")
        return [of_target(implementation, case, shared) for case in chosen]
    named = {kind: option(kind) for kind in ("format", "quantizer", "accumulate")}
    if not any(named.values()):
        raise pytest.UsageError("--lpref-impl: say what it is an implementation of: --lpref-format, --lpref-quantizer or --lpref-accumulate")
    against = {kind: value for kind, value in named.items() if value}
    if not option("quantizer") and not option("accumulate"):
        against |= {"rounding": option("rounding") or "nearest_even", "overflow": option("overflow") or "saturate", "dtype": option("dtype")}
        against |= {"word_bits": option("word-bits")} if option("word-bits") else {}
    elif option("quantizer"):
        settings = [f"{key}={option(key)}" for key in ("rounding", "overflow") if option(key)]
        against["quantizer"] = ":".join([against["quantizer"], *settings])
    return [(" ".join(str(v) for v in against.values()), implementation, {**against, **shared})]


def wanted(case: Case, option: Callable[[str], Any]) -> bool:
    """Whether a target's case is what the options leave."""
    return isinstance(case, CastCase | QuantizeCase) and all(
        option(key) in (None, getattr(case, key, None)) for key in ("format", "quantizer", "rounding", "overflow")
    )


def of_target(target: Target, case: Any, shared: dict[str, Any]) -> tuple[str, Callable[..., Any], dict[str, Any]]:
    """The same for one case of a target."""
    if isinstance(case, CastCase):
        against: dict[str, Any] = {"format": case.format, "rounding": case.rounding, "overflow": case.overflow, "dtype": case.input}
        against |= {"word_bits": case.word_bits} if case.word_bits else {}
        return str(case), lambda x, words=None: target.cast(x, replace(case), words), {**against, **shared}
    return str(case), lambda x, words=None: target.quantize(x, case, None, words), {"quantizer": case.quantizer, **shared}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a case."""
    spec = metafunc.config.getoption("--lpref-impl")
    found = [] if spec is None else cases(metafunc.config, load(spec, metafunc.config.invocation_params.dir))
    metafunc.parametrize(("implementation", "against"), [(f, against) for _, f, against in found], ids=[name for name, *_ in found])


def test_conforms(implementation: Callable[..., Any], against: dict[str, Any]) -> None:
    """The implementation gives the definition's answers on every class of inputs."""
    if against.get("dtype", "float32") not in INPUTS:
        pytest.skip(f"inputs of {against['dtype']}: use lpref diff")
    try:
        report = run_suite(implementation, **against)
    except LprefError as error:  # a name that is not known, an answer of the wrong shape
        pytest.fail(str(error), pytrace=False)
    if not report.passed:
        pytest.fail(str(report), pytrace=False)
