"""Is it alive, is it ready, how does it fare."""

from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.exc import SQLAlchemyError

from app import presence
from app.auth import MayScrape, MayWatch
from app.db import check_schema, transaction
from app.errors import Unavailable
from app.metrics.exposition import render
from app.schemas import WorkerView

router = APIRouter(tags=["system"])


@router.get("/livez")
def live() -> dict[str, str]:
    """The process answers. Says nothing about its servers: a restart would not mend those."""
    return {"status": "ok"}


@router.get("/readyz")
def ready() -> dict[str, str]:
    """Postgres answers and has the schema this code needs, or a later release's. Redis is not asked: the API works without
    it."""
    try:
        check_schema(begun=True)
    except SQLAlchemyError:
        raise Unavailable("Postgres does not answer. Tickets cannot be accepted until it does.") from None
    return {"status": "ok"}


@router.get("/workers")
def workers(who: MayWatch) -> list[WorkerView]:
    """Workers and beat, as each last wrote of itself; one that ended in order is gone, one that was lost for a quarter of an
    hour too."""
    with transaction() as session:
        return [WorkerView(**vars(each)) for each in presence.everyone(session)]


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(known: MayScrape, accept: Annotated[str, Header(include_in_schema=False)] = "*/*") -> Response:
    """What Prometheus reads, in whichever of its formats it asks for."""
    body, content_type = render(accept, known=known)
    return Response(body, headers={"Content-Type": content_type})
