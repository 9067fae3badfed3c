"""What moves and remembers: plain classes, each with one line that makes it a Ray actor."""
