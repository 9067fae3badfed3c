"""Mergeable states: moments, quantile and distinct sketches, and the roll-up of a batch into them."""
