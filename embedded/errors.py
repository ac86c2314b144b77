"""What this package refuses, in sentences an operator can act on."""


class Refused(Exception):
    """A private server cannot run here. The message says why and what to do; print it, the traceback adds nothing."""


class StartFailed(Refused):
    """A program died, or was not ready in time. The message ends with the last lines it logged."""
