"""What checks end in when something does not hold."""


class Fault(Exception):
    """The first thing that does not hold, in one sentence."""
