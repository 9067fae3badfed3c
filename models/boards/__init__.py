"""Boards that are kept: what one may hold, and the questions it asks."""
