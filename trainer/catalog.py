"""Everything with a name, kind by kind, as rows: what ``lpref list`` prints and completion offers."""

from __future__ import annotations

import importlib.resources
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from lpref.ref.errors import UnknownNameError
from lpref.trainer.pages import Page, page
from lpref.trainer.status import status

COLUMNS = ("name", "title", "kind", "standard", "revision", "seeds", "module", "source_level", "status")


def row(name: str, kind: str, thing: Any = None, **fields: Any) -> dict[str, Any]:
    """One row: what is given, else what `thing` says about itself, else what the page (the docstring of the module) says."""
    module = fields.get("module") or getattr(thing, "module", "") or getattr(thing, "__module__", None) or ""
    says = page(module) if module.startswith("lpref.ref.") else Page()
    found = {
        "name": name, "title": getattr(thing, "title", "") or first_line(thing), "kind": kind,
        "standard": getattr(thing, "standard", "") or getattr(thing, "source", "") or says.source,
        "revision": getattr(thing, "revision", 1), "seeds": [], "module": module,
        "source_level": getattr(thing, "source_level", "") or says.source_level, "status": status(kind, name),
    }  # fmt: skip
    found |= fields
    return {**found, "seeds": seeds(str(found["standard"]))}


def seeds(source: str) -> list[str]:
    """The papers that a source names, by their arXiv ids.

    >>> seeds("arXiv 2509.25149, 2502.20586; NVIDIA/TransformerEngine recipe.py")
    ['2509.25149', '2502.20586']
    """
    return re.findall(r"\b\d{4}\.\d{4,5}\b", source or "")


def first_line(thing: Any) -> str:
    """The first line of a class's or function's docstring."""
    text = inspect.getdoc(thing) if inspect.isclass(thing) or inspect.isroutine(thing) else None
    return text.splitlines()[0].rstrip(".") if text else ""


def _formats() -> Iterable[dict[str, Any]]:
    from lpref.ref.formats import FORMATS, VECTOR_FORMATS

    return (row(name, "format", f) for name, f in [*FORMATS.items(), *VECTOR_FORMATS.items()])


def _roundings() -> Iterable[dict[str, Any]]:
    from lpref.ref.rounding import ROUNDINGS

    return (row(name, "rounding", r, module="lpref.ref.rounding.mode") for name, r in ROUNDINGS.items())


def _overflow() -> Iterable[dict[str, Any]]:
    from lpref.ref.rounding import OVERFLOW

    return (
        row(
            name,
            "overflow",
            o,
            title=f"finite {o.finite}, infinity {o.infinity}, NaN {o.nan}, sign in unsigned formats {o.unsigned}",
            module="lpref.ref.rounding.overflow",
        )
        for name, o in OVERFLOW.items()
    )


def _scale_rules() -> Iterable[dict[str, Any]]:
    from lpref.ref.scaling import PAGES, rule

    plain = row(
        "none",
        "scale-rule",
        None,
        title="no scale: the element format's own conversion",
        module="lpref.ref.quantize.quantize",
        standard="lpref",
        source_level="read",
    )
    pages = {name: PAGES[name] for name in rule._CHOICES["rule"] if name in PAGES}
    titles = {name: (inspect.getdoc(page) or "").partition("\n")[0].rstrip(".") for name, page in pages.items()}
    return [
        plain,
        *(row(name, "scale-rule", None, title=titles[name], module=page.__name__) for name, page in pages.items()),
    ]


def _accumulators() -> Iterable[dict[str, Any]]:
    from lpref.ref.linalg import ACCUMULATORS

    page_of = lambda a: "tensor_core" if a.model.inner == "tensor_core" else "accumulators"  # noqa: E731
    return (row(name, "accumulator", a, module=f"lpref.ref.linalg.{page_of(a)}") for name, a in ACCUMULATORS.items())


def quantizer_title(q: Any) -> str:
    """``e2m1, blocks 1 x 16 (other x k), scale nvfp4 in e4m3``."""
    size = lambda n: "all" if n is None else n  # noqa: E731
    return f"{q.format}, blocks {size(q.blocks.other)} x {size(q.blocks.k)} (other x k), scale {q.scale.rule} in {q.scale.format}"


def quantizer_row(name: str, q: Any) -> dict[str, Any]:
    """What is particular to a quantizer stands on its scale rule's page; where it has no scale, its format's."""
    from lpref.ref.formats import VECTOR_FORMATS
    from lpref.ref.formats import format as format_of
    from lpref.ref.scaling import PAGES

    f = VECTOR_FORMATS[q.format] if q.format in VECTOR_FORMATS else format_of(q.format)
    found = row(name, "quantizer", q, title=quantizer_title(q), module=PAGES[q.scale.rule].__name__ if q.scale.rule in PAGES else f.module)
    return {**found, "source_level": found["source_level"] or f.source_level}


def _quantizers() -> Iterable[dict[str, Any]]:
    from lpref.ref.quantize import COMPLEX_QUANTIZERS, QUANTIZERS

    return (quantizer_row(name, q) for name, q in (QUANTIZERS | COMPLEX_QUANTIZERS).items())


def _recipes() -> Iterable[dict[str, Any]]:
    from lpref.specs import recipe

    return (row(name, "recipe", recipe(name)) for name in spec_names("recipes"))


def spec_names(folder: str) -> list[str]:
    """Names of the YAML files of a folder of the installed specs."""
    files = importlib.resources.files("lpref.specs").joinpath(folder)
    return (
        sorted(f.name.removesuffix(".yaml") for f in files.iterdir() if f.name.endswith(".yaml"))
        if files.is_dir()
        else []
    )


def _optimizers() -> Iterable[dict[str, Any]]:
    from lpref.ref.optim import RULES

    return (row(name, "optimizer", rule) for name, rule in RULES.items())


def _schedules() -> Iterable[dict[str, Any]]:
    from lpref.ref.optim import SCHEDULES

    titles = {
        "constant": "the peak rate", "linear": "straight down to final_ratio of the peak", "cosine": "half a cosine down to final_ratio of the peak",
        "wsd": "the peak rate, then straight down over the last decay_fraction (warm-up, stable, decay)",
    }  # fmt: skip
    return (row(name, "schedule", None, title=f"after a linear warm-up: {titles[name]}", module="lpref.ref.optim.schedule") for name in SCHEDULES)


def _models() -> Iterable[dict[str, Any]]:
    from lpref.models import MODELS

    sources = {
        "mlp": "arXiv:1502.01852 (initial weights)", "cnn": "arXiv:1512.03385", "gpt": "arXiv:2302.13971; GPT-2 for learned positions",
        "vit": "arXiv:2010.11929",
    }  # fmt: skip
    return (row(name, "model", model, standard=sources[name], source_level="secondary") for name, model in MODELS.items())


def _datasets() -> Iterable[dict[str, Any]]:
    from lpref.trainer.data import DATASETS

    sources = {
        "stdlib": "the installed CPython", "digits": "UCI optical recognition of handwritten digits (data/NOTICE)", "text:PATH": "a file of yours",
        "bin:PATH": "shards as nanoGPT and llm.c write them", "idx:DIR": "the IDX format of MNIST",
    }  # fmt: skip
    return (row(name, "dataset", None, title=title, module=load.__module__, standard=sources[name]) for name, (load, title) in DATASETS.items())


def _backends() -> Iterable[dict[str, Any]]:
    from lpref.trainer.doctor import backends

    return (
        row(b["name"], "backend", None, title=("" if b["present"] else "not here: ") + b["why"], module="lpref.accel", standard="lpref")
        for b in backends()
    )


def _kernels() -> Iterable[dict[str, Any]]:
    from lpref.accel import backend
    from lpref.accel.cuda.backend import CudaBackend

    kernels = [(k.op, k) for k in backend("cpu").kernels.values()] + [(f"cuda {k.op}", k) for k in CudaBackend().kernels.values()]
    return (
        row(
            name,
            "kernel",
            None,
            title=f"{type(k.contract).__name__} against {k.reference.__module__}",
            module=getattr(k.function, "__module__", ""),
            standard="lpref",
        )
        for name, k in kernels
    )


def _attention() -> Iterable[dict[str, Any]]:
    return [
        row(
            "dense",
            "attention",
            None,
            title="exact softmax attention, causal or full, grouped queries",
            module="lpref.ref.attention.dense",
        )
    ]


def _methods() -> Iterable[dict[str, Any]]:
    kinds = ("formats", "roundings", "overflow", "scale-rules", "accumulators", "quantizers", "recipes", "optimizers", "attention")
    return [entry for kind in kinds for entry in rows(kind)]


def _targets() -> Iterable[dict[str, Any]]:
    from lpref.conformance.targets import TARGETS, builtin

    for name in TARGETS:
        target = builtin(name)
        here = f"{target.package} {target.version}" if target.available is None else f"not here: {target.available}"
        yield row(name, "target", None, title=f"{target.title}; {here}", module=type(target).__module__, standard=target.package)


def _experiments() -> Iterable[dict[str, Any]]:
    from lpref.trainer.reproduce.experiment import experiment, experiment_names

    return (row(name, "experiment", experiment(name), source_level="secondary") for name in experiment_names())


KINDS: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
    "formats": _formats, "roundings": _roundings, "overflow": _overflow, "scale-rules": _scale_rules, "accumulators": _accumulators,
    "quantizers": _quantizers, "recipes": _recipes, "optimizers": _optimizers, "schedules": _schedules, "attention": _attention,
    "models": _models, "datasets": _datasets, "experiments": _experiments, "targets": _targets, "backends": _backends, "kernels": _kernels,
    "methods": _methods,
}  # fmt: skip


def rows(kind: str) -> list[dict[str, Any]]:
    """The rows of one kind; UnknownNameError for a kind that does not exist."""
    if kind not in KINDS:
        raise UnknownNameError("kind", kind, KINDS)
    return list(KINDS[kind]())


def find(name: str) -> tuple[str, Any]:
    """(kind, object) of a format, quantizer, recipe or optimizer; ``kind:name`` picks one where several kinds share a name."""
    from lpref.ref.formats import FORMATS
    from lpref.ref.optim import RULES
    from lpref.ref.quantize import QUANTIZERS

    prefix, colon, rest = name.partition(":")
    wanted = prefix if colon and prefix in LOOKUPS else ""
    plain = rest if wanted else name
    for kind, lookup in LOOKUPS.items():
        if wanted in ("", kind) and (found := lookup(plain)) is not None:
            return kind, found
    names = [*spec_names("recipes"), *QUANTIZERS, *RULES, *FORMATS]
    raise UnknownNameError("name", name, names)


def _recipe_named(name: str) -> Any:
    from lpref.specs import recipe

    return recipe(name) if name in spec_names("recipes") or name.endswith((".yaml", ".yml")) else None


def _quantizer_named(name: str) -> Any:
    from lpref.ref.quantize import COMPLEX_QUANTIZERS, QUANTIZERS
    from lpref.specs import quantizer

    return quantizer(name) if name.partition(":")[0].partition("@")[0] in QUANTIZERS | COMPLEX_QUANTIZERS else None


def _optimizer_named(name: str) -> Any:
    from lpref.ref.optim import RULES

    return RULES.get(name)


def _format_named(name: str) -> Any:
    from lpref.ref.formats import VECTOR_FORMATS
    from lpref.ref.formats import format as by_name

    if name in VECTOR_FORMATS:
        return VECTOR_FORMATS[name]
    try:
        return by_name(name)
    except UnknownNameError:
        return None


LOOKUPS: dict[str, Callable[[str], Any]] = {
    "recipe": _recipe_named, "quantizer": _quantizer_named, "optimizer": _optimizer_named, "format": _format_named,
}  # fmt: skip
