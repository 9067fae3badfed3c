"""Imports Ray Serve once with its own warnings off, so that every other warning can be an error.

Ray Serve 2.60 declares its settings in a form that pydantic deprecates: Ray's to mend, not ours.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ray.serve.config

LOADED = ray.serve.config.__name__
