"""What checks end in when something does not hold."""


class Fault(Exception):
    """The first thing that does not hold, in one sentence."""


def printable(line: str) -> str:
    """The line as a terminal may have it: a fault may quote what a forger wrote, which might wipe it out again."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
