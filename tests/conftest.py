"""Fixtures and profiles shared by every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadline: this suite runs on shared machines, and a slow example is no wrong example.
settings.register_profile("hub", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
settings.load_profile("hub")
