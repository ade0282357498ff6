"""From a spec to a trained model: data, loop, checkpoints, logs, reports."""

assert __name__.startswith("lpref."), "import lpref." + __name__
