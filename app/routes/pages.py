"""Static files of the pages."""

from fastapi import APIRouter
from fastapi.responses import FileResponse

from app.pages import STATIC

router = APIRouter(include_in_schema=False)


@router.get("/static/expunge.css")
def stylesheet() -> FileResponse:
    return FileResponse(STATIC / "expunge.css", media_type="text/css", headers={"Cache-Control": "max-age=3600"})
