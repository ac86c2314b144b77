"""How cost grows: with tickets, with samples, with the size of a batch. `python -m benchmarks.scale`."""
