"""A stand-in for a worker master and its pool: forks two children and waits.

Usage: standin.py FOLDER [SIGNAL...]. Each process leaves a file named after its pid in FOLDER. The children ignore all
polite signals, as a pool worker deep in a computation would; the master ignores the ones that are named.
"""

import os
import signal
import sys
from pathlib import Path

CREW = 3


def main() -> None:
    folder, deaf_to = Path(sys.argv[1]), sys.argv[2:]
    for _ in range(CREW - 1):
        if os.fork() == 0:
            deaf_to = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"]
            break
    for name in deaf_to:
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    (folder / str(os.getpid())).touch()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
