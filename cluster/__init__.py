"""What every process of the hub agrees on, and the only hands on bytes that processes share."""
