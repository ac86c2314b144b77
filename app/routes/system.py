"""Is it alive, is it ready."""

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from app.db import check_schema
from app.errors import Unavailable

router = APIRouter(tags=["system"])


@router.get("/livez")
def live() -> dict[str, str]:
    """The process answers. Says nothing about its servers: a restart would not mend those."""
    return {"status": "ok"}


@router.get("/readyz")
def ready() -> dict[str, str]:
    """Postgres answers and has the schema this code needs. Redis is not asked: the API works without it."""
    try:
        check_schema()
    except SQLAlchemyError:
        raise Unavailable("Postgres does not answer. Tickets cannot be accepted until it does.") from None
    return {"status": "ok"}
