"""Whom Postgres runs as. It refuses user id 0, yet containers and small servers often have no other."""

import os
import pwd
import signal
import subprocess
from pathlib import Path

from embedded.errors import Refused
from embedded.launch import NAMESPACE, SAME, command

ACCOUNTS = ("postgres", "nobody")


def choose(binary: Path, data_dir: Path) -> str:
    """An identity, as `launch.command` takes it, under which `binary` runs here and may use `data_dir`.

    A plain user stays itself. Root enters a user namespace, where that is allowed, or becomes an account without
    rights; a folder that such an account already owns stays with it.

    Raises:
        Refused: root, and no way to be someone else.
    """
    if os.geteuid() != 0:
        return SAME
    if data_dir.exists() and data_dir.stat().st_uid != 0:
        owner = data_dir.stat()
        return f"{owner.st_uid}:{owner.st_gid}"
    for identity in (NAMESPACE, *_accounts()):
        if runs(binary, identity):
            return identity
    raise Refused(
        f"Postgres refuses to run as root. User namespaces are not allowed here, and neither of the accounts"
        f" {' and '.join(ACCOUNTS)} can run {binary}. Run Expunge as an ordinary user, or use a server of your own."
    )


def runs(binary: Path, identity: str) -> bool:
    """Whether the binary can be started at all as `identity`."""
    asked = command([str(binary), "--version"], signal.SIGKILL, identity)
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def hand_over(folder: Path, identity: str) -> None:
    """Make the folder private to the identity. Without a change of user it is ours already.

    Raises:
        Refused: it is someone else's, who could then replace what is in it: a socket folder may lie in a shared place.
    """
    uid, _, gid = identity.partition(":")
    if folder.lstat().st_uid not in (os.geteuid(), int(uid) if gid else os.geteuid()):
        raise Refused(f"{folder} belongs to another user. Remove it, or use another folder.")
    if gid:
        os.chown(folder, int(uid), int(gid))
    folder.chmod(0o700)


def _accounts() -> list[str]:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return [f"{known[name].pw_uid}:{known[name].pw_gid}" for name in ACCOUNTS if name in known]
