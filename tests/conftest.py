"""Shared set-up of the tests: Hypothesis profiles (`ci` deterministic, `deep` long), and the plugin where lpref is not installed."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["lpref.conformance.plugin"]

settings.register_profile("ci", max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("LPREF_HYPOTHESIS_PROFILE", "ci"))
