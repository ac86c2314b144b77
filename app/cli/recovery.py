"""`expunge backup`, `restore` and `replay`: what is left when everything is lost, straight from the database."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import psycopg
import typer

from app.cli.console import console
from app.cli.service import DATABASE, NO_VALUES, make_home
from app.config import settings
from app.db import transaction
from app.errors import ServiceError, Unprocessable
from app.recovery import backup as taking
from app.recovery import replay as replaying
from app.recovery import restore as restoring
from app.recovery.archive import open_archive
from embedded.errors import Refused, StartFailed
from embedded.lock import exclusive
from embedded.postgres import PostgresServer
from embedded.supervisor import Supervisor

PLACE = "Folder, or an address such as s3://bucket/prefix"


@contextmanager
def database() -> Iterator[None]:
    """The database answers inside: the one of DATABASE_URL, the private one that runs, or the private one, started for this."""
    conf = settings()
    if conf.database_url is not None or running():
        yield
        return
    make_home(conf.home)
    try:
        with exclusive(conf.home), Supervisor(conf.home / "log", say) as supervisor:
            postgres = PostgresServer(conf.home / "postgres", conf.socket_dir, options=NO_VALUES)
            postgres.prepare()
            supervisor.start(postgres.program())
            postgres.create_database(DATABASE)
            yield
    except (Refused, StartFailed) as error:
        raise ServiceError(str(error)) from None


def running() -> bool:
    """Whether the private server runs."""
    try:
        psycopg.connect(host=str(settings().socket_dir), user="postgres", dbname=DATABASE, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def backup(
    to: Annotated[str, typer.Argument(help=PLACE)],
    keep: Annotated[
        int | None, typer.Option(min=1, help="Delete all but the newest so many, and what crashed ones left")
    ] = None,
) -> None:
    """Back up the database and the artifacts, also while the service runs. Artifacts that are there are not copied again."""
    archive = open_archive(to)
    with database():
        made = taking.take(archive, say)
    if keep is not None:
        for name in taking.prune(archive, keep):
            say(f"deleted {name}")
    rows, size = sum(part.rows for part in made.parts), sum(made.artifacts.values())
    say(f"{made.name}: {rows} rows, {len(made.artifacts)} artifacts of {size} bytes. The audit log's head:")
    say(f"{made.head.seq} {made.head.hash}")
    say(f"The manifest's SHA-256, to be kept elsewhere: {made.sha256}")
    if made.damaged:
        for digest in made.damaged:
            console.print(f"damaged or gone: sha256:{digest}", style="red", soft_wrap=True)
        sys.exit(1)


def restore(
    frm: Annotated[str, typer.Argument(metavar="FROM", help=PLACE)],
    name: Annotated[str | None, typer.Option(help="Which back-up; the newest where none is named")] = None,
    sha256: Annotated[str | None, typer.Option(help="Of its manifest, as `expunge backup` printed it")] = None,
) -> None:
    """Restore a back-up into an empty database. Nothing is trained or published before `expunge replay`."""
    archive = open_archive(frm)
    manifest = restoring.find(archive, name, sha256)
    with database():
        restoring.restore(archive, manifest, say)
    say(f"Restored {manifest.name}. The audit log ends at event {manifest.head.seq}:")
    say(manifest.head.hash)
    say("Nothing is trained or published before you have replayed what came after it: expunge replay JOURNAL --by NAME")


def replay(
    journal: Annotated[str | None, typer.Argument(help=PLACE + " that `expunge audit export` writes to")] = None,
    by: Annotated[str, typer.Option(help="Your name, for the audit log")] = "",
    nothing_newer: Annotated[bool, typer.Option(help="Declare that no ticket came after the back-up")] = False,
    why: Annotated[str, typer.Option(help="How you know")] = "",
    sha256: Annotated[str | None, typer.Option(help="Of the newest segment, as the last export printed it")] = None,
) -> None:
    """Bring back the tickets that came after a restored back-up, and let the installation work again."""
    if not by.strip():
        raise Unprocessable("Say who you are with --by NAME: it is put on record.")
    if (journal is None) is not nothing_newer or (journal is None and sha256 is not None):
        raise Unprocessable("Name the journal to replay, or declare with --nothing-newer that there is nothing to.")
    with database():
        if journal is None:
            if not why.strip():
                raise Unprocessable("Say how you know with --why TEXT: it is put on record.")
            with transaction() as session:
                replaying.declare(session, by.strip(), why.strip())
            say("Put on record. The installation works again.")
            return
        with transaction() as session:
            done = replaying.replay(session, open_archive(journal), by.strip(), sha256)
    tell(done)


def tell(done: replaying.Replayed) -> None:
    """What was brought back, what was not, and what an operator has to do again."""
    say(
        f"{done.tickets} tickets over {done.samples} samples are back; {done.known} were known; {done.cancelled} taken back."
    )
    if done.reopened:
        say(f"{done.reopened} of them had been fulfilled by versions that are lost: they are pending again.")
    if done.again:
        say(f"{done.again} keys, policies, stops, weights or webhooks are again what they were.")
    for kind, count in sorted(done.newer.by_hand.items()):
        say(f"  not replayed, do it again by hand: {kind} ({count})")
    say(
        f"The journal ends at event {done.newer.ends.seq}, written {done.newer.written_at}. Later tickets are in no file."
    )
    if not done.waiting:
        say("The installation works again.")
        return
    for dataset, count in sorted(done.waiting.items()):
        console.print(f"{count} tickets are on dataset {dataset!r}, which was loaded after the back-up.", style="red")
    console.print("Load the same manifests again, then replay again. Nothing is trained before.", style="red")
    sys.exit(1)
