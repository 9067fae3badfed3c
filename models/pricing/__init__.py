"""Prices of model calls, and the exact cost of a batch of them. Pure: no disk, no clock."""
