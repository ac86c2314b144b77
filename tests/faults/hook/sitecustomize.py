"""Python imports this on its own when the folder is on PYTHONPATH; only a process that was told of faults goes on."""

import os

if os.environ.get("EXPUNGE_FAULTS"):
    from tests.faults import plugin

    plugin.install()
