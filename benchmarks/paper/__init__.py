"""The paper's experiments as commands: `python -m benchmarks.paper --help`."""
