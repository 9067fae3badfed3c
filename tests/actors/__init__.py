"""Tests: actors."""
