"""What belongs together: the spans of a trace, the events around them."""
