"""Tests: models.anomaly."""
