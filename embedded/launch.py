"""The few steps between fork and exec: become the right user, agree to die with the parent, turn into the program.

They run in a bare interpreter of their own rather than in a `preexec_fn`, which is unsafe in a process with threads.
The order matters: the kernel forgets a parent-death signal when credentials change, so it is asked for last.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

SAME = "same"
NAMESPACE = "namespace"
NOBODY = 65534

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from embedded.{module} import main; main()"


def interpreter(module: str) -> list[str]:
    """Command line of a bare interpreter running `embedded.<module>.main`: no site, no user settings, ~20 ms."""
    home = str(Path(__file__).resolve().parent.parent)
    return [sys.executable, "-I", "-S", "-c", _BOOT.format(module=module), home]


def command(argv: Sequence[str], death_signal: signal.Signals, identity: str = SAME) -> list[str]:
    """`argv`, wrapped so that it runs as `identity` and gets `death_signal` when the calling thread ends.

    `identity` is `SAME`, `NAMESPACE` (root in disguise: a user namespace in which it is called nobody) or `uid:gid`.
    """
    return [*interpreter("launch"), str(os.getpid()), str(int(death_signal)), identity, *argv]


def main() -> None:
    """Never returns: either the program takes over this process, or it ends with 127 and a line on stderr."""
    parent, death_signal, identity, *argv = sys.argv[1:]
    try:
        _become(identity)
        _die_with(int(parent), int(death_signal))
        # Python ignores some of these, and a background shell job starts with SIGINT ignored: undo both.
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)  # noqa: S606  (the whole point: no shell)
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]} as {identity}: {error.strerror}\n")
        sys.exit(127)


def _become(identity: str) -> None:
    if identity == SAME:
        return
    if identity == NAMESPACE:
        _enter_namespace()
        return
    uid, gid = map(int, identity.split(":"))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _enter_namespace() -> None:
    """Postgres refuses user id 0. In a namespace of its own this process has another number and the same rights to
    its files, so neither an account nor a chown is needed, and folders under a private home stay reachable."""
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")  # the kernel's condition for writing gid_map
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")


def _die_with(parent: int, death_signal: int) -> None:
    """Ask for the signal, then look: a parent that died before we asked will never cause one."""
    _call("prctl", _PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        sys.exit("the owner ended before this program began")


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc[name](*(ctypes.c_ulong(value) for value in arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
