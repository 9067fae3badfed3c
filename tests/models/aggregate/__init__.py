"""Tests: roll-ups and sketches."""
