"""The doors of the hub: everything that speaks HTTP or gRPC."""
