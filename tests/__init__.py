"""Tests: the six rooms mirrored, then promises, journeys, house rules and benchmarks."""
