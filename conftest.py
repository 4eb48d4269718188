"""Settings of Hypothesis for the tests of core, plugins and examples alike."""

import hypothesis

# The machine may be busy, so the duration of an example is no criterion.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")
