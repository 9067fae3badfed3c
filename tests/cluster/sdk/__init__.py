"""Tests: the client for Python programs."""
