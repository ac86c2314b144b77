"""The test of the test: verdicts on updates whose truth is known, because models were retrained. `make bench-verdict`."""
