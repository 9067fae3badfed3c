"""Tests of the metadata store, each over SQLite in a temporary folder."""
