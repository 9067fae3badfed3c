"""Tests: boards."""
