"""Tests of the event contract: decoders, dialects and the rules of a row."""
