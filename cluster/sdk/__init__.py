"""What people outside the hub import: the client that sends events and reads answers."""
