"""Faults at labelled points of the real processes. Production code knows nothing of it: see `plugin`."""
