"""The front door: sign in and out, what waits for somebody, the description of the interface, and the pages' own files."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from sqlalchemy.orm import Session

from app import codeflow, overview, pages, sessions
from app.auth import Scope, address_of, cookie_name, door, is_plain, visitor
from app.config import settings
from app.db import single, transaction
from app.errors import ServiceError, Unauthenticated
from app.interface import interface
from app.routes.pages import shell
from app.routes.pages.shell import Anybody

router = APIRouter(include_in_schema=False)
FLOW = "expunge-sign-in"


@router.get("/")
def home(visit: Anybody) -> Response:
    """What waits for whoever is signed in."""
    with transaction() as session:
        waiting = overview.waiting_for(session, visit.who)
    return visit.show("home/home.html", waiting=waiting)


@router.get("/ui/sign-in")
def sign_in_page(request: Request, following: Annotated[str, Query(alias="next")] = "/") -> Response:
    """The form for a key, and the way to an identity provider where there is one."""
    request.state.visitor = visitor(request)
    if request.state.visitor is not None:
        return shell.redirect(request, pages.within(following))
    return form(request, following)


def form(request: Request, following: str, error: ServiceError | None = None) -> Response:
    context = {"error": error, "next": pages.within(following), "provider": codeflow.verifier() is not None}
    headers = error.headers if error else {}
    return shell.page(request, "home/sign_in.html", context, headers, error.status if error else 200)


@router.post("/ui/sign-in")
async def sign_in(request: Request) -> Response:
    """A key becomes a session. Guessing is as slow here as with the key itself."""
    shell.check_origin(request)
    sent = await shell.read(request)
    key, following = (value if isinstance(value, str) else "" for value in (sent.get("key"), sent.get("next")))
    return await run_in_threadpool(enter, request, key.strip(), following)


def enter(request: Request, key: str, following: str) -> Response:
    try:
        with single() as opened:
            who = door().authenticate(opened, key, address_of(request))
    except ServiceError as error:
        said = Unauthenticated(WRONG) if isinstance(error, Unauthenticated) else error
        return form(request, following, said)
    with transaction() as session:
        leave(request, session)
        token = sessions.open_for_key(session, who.key)
    return seat(request, shell.redirect(request, pages.within(following)), token)


WRONG = "The key opens nothing: it is not one of ours, has expired, or was revoked. `expunge keys create` makes one."


def seat(request: Request, answer: Response, token: str) -> Response:
    """Give the browser its cookie: out of reach of scripts, and never sent from another site's page."""
    answer.set_cookie(
        cookie_name(request),
        token,
        max_age=settings().session_seconds,
        path="/",
        secure=not is_plain(request),
        httponly=True,
        samesite="strict",
    )
    return answer


def leave(request: Request, session: Session) -> None:
    """End the session that the browser has had so far."""
    token = request.cookies.get(cookie_name(request))
    if token:
        sessions.end(session, token)


@router.post("/ui/sign-out")
def sign_out(visit: Anybody) -> Response:
    """End the session, here and in the database."""
    with transaction() as session:
        leave(visit.request, session)
    answer = shell.redirect(visit.request, "/ui/sign-in")
    answer.delete_cookie(cookie_name(visit.request), path="/", secure=not is_plain(visit.request), httponly=True)
    return answer


@router.get("/ui/sign-in/begin")
def to_provider(request: Request, following: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Off to the identity provider, by a link: a form may lead to this host alone. The cookie is what the answer is held
    against; it must survive the way back, which comes from another site, and is good for nothing else."""
    if codeflow.verifier() is None:
        return form(request, "/", Unauthenticated("There is no identity provider here. Sign in with a key."))
    begun = codeflow.Begun.new(pages.within(following))
    answer = Response(status_code=303, headers={"Location": codeflow.address(begun, back(request))})
    answer.set_cookie(
        flow_cookie(request),
        begun.as_cookie(),
        max_age=codeflow.SECONDS,
        path="/",
        secure=not is_plain(request),
        httponly=True,
        samesite="lax",
    )
    return answer


def flow_cookie(request: Request) -> str:
    return FLOW if is_plain(request) else f"__Host-{FLOW}"


def back(request: Request) -> str:
    """Where the provider sends the browser back to, as it must be registered there."""
    here = settings().public_url or f"{request.url.scheme}://{request.url.netloc}"
    return here.rstrip("/") + "/ui/sign-in/provider"


@router.get("/ui/sign-in/provider")
def from_provider(request: Request, code: str = "", state: str = "") -> Response:
    """Back from the identity provider. The page that follows leads on by itself: a redirect would still count as coming
    from the provider's site, and the browser would keep the new cookie to itself."""
    begun = codeflow.Begun.of(request.cookies.get(flow_cookie(request), ""))
    following = pages.within(begun.following) if begun else "/"
    try:
        client, scopes = brought(request, begun, state, code)
    except ServiceError as error:
        answer = form(request, following, error)
    else:
        with transaction() as session:
            leave(request, session)
            token = sessions.open_for_subject(session, client, scopes)
        answer = seat(request, shell.page(request, "home/signed_in.html", {"next": following}), token)
    answer.delete_cookie(flow_cookie(request), path="/", secure=not is_plain(request), httponly=True)
    return answer


def brought(request: Request, begun: codeflow.Begun | None, state: str, code: str) -> tuple[str, frozenset[Scope]]:
    """Who comes back, as the provider says; it is asked only by a browser that began here."""
    ours = codeflow.begun_here(begun, state, code)
    with door().asking(address_of(request)):
        return codeflow.finish(ours, code, back(request))


@router.get("/docs")
def docs(request: Request) -> Response:
    """Every operation and shape, from the OpenAPI schema; no script, nothing from elsewhere."""
    shown = {"interface": interface(request.app.openapi())}
    return pages.render(request, "docs.html", shown, {"Cache-Control": "max-age=60"})


def static(path: str, media_type: str) -> FileResponse:
    return FileResponse(pages.STATIC / path, media_type=media_type, headers={"Cache-Control": "max-age=3600"})


@router.get("/static/expunge.css")
def stylesheet() -> FileResponse:
    return static("expunge.css", "text/css")


@router.get("/static/figures.css")
def figures_stylesheet() -> FileResponse:
    return static("figures.css", "text/css")


@router.get("/static/shell.css")
def shell_stylesheet() -> FileResponse:
    return static("shell.css", "text/css")


@router.get("/static/theme.js")
def theme() -> FileResponse:
    return static("theme.js", "text/javascript")


@router.get("/static/shell.js")
def script() -> FileResponse:
    return static("shell.js", "text/javascript")


@router.get("/static/htmx.min.js")
def htmx() -> FileResponse:
    return static("vendor/htmx.min.js", "text/javascript")
