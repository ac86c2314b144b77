"""The description of the interface as a page, and static files of the pages."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from app.interface import interface
from app.pages import STATIC, render

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def docs(request: Request) -> Response:
    """Every operation and shape, from the OpenAPI schema; no script, nothing from elsewhere."""
    shown = {"interface": interface(request.app.openapi())}
    return render(request, "docs.html", shown, {"Cache-Control": "max-age=60"})


@router.get("/static/expunge.css")
def stylesheet() -> FileResponse:
    return FileResponse(STATIC / "expunge.css", media_type="text/css", headers={"Cache-Control": "max-age=3600"})


@router.get("/static/figures.css")
def stylesheet_of_figures() -> FileResponse:
    return FileResponse(STATIC / "figures.css", media_type="text/css", headers={"Cache-Control": "max-age=3600"})
