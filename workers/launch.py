"""torchrun, as a worker starts it: it dies with the worker. `python -m workers.launch PARENT ARGUMENTS...`."""

import os
import sys

from torch.distributed.run import main

from workers.rank import LAUNCHER, die_with

if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.environ[LAUNCHER] = str(os.getpid())
    main(sys.argv[2:])
