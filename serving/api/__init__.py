"""One router a door: parse, authorise, call, answer."""
