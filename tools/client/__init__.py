"""What writes the generated half of the Python client: `make client`."""
