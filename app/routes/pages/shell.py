"""What all pages of somebody who is signed in have in common: who asks, the frame around the page, forms, refusals."""

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlsplit

from fastapi import Request, Response, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from fastapi.security import SecurityScopes
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.datastructures import FormData, UploadFile

from app import pages, sessions
from app.auth import Principal, Scope, Visitor, allowed, visitor
from app.config import settings
from app.errors import ForeignForm, Invalid, ServiceError, TooLarge, words

SAFE = ("GET", "HEAD")
MOST_FIELDS = 500
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "same-origin"}
"""With `no-referrer` a browser would send the forms' Origin as `null`."""

NAVIGATION = (
    ("Home", "/", None),
    ("Tickets", "/ui/tickets", Scope.DELETIONS_READ),
    ("Queue", "/ui/queue", Scope.DELETIONS_READ),
    ("Decisions", "/ui/decisions", Scope.POLICIES_APPROVE),
    ("Models", "/ui/models", Scope.DELETIONS_READ),
    ("Policies", "/ui/policies", Scope.DELETIONS_READ),
    ("Schedules", "/ui/schedules", Scope.DELETIONS_READ),
    ("System", "/ui/system", Scope.METRICS_READ),
)
"""Each with the scope without which it is not shown, and not opened either."""


ELSEWHERE = (
    ("/approvals/", "Decisions"),
    ("/ui/batches", "Queue"),
    ("/flush", "Queue"),
    ("/ui/versions/", "Models"),
    ("/models/", "Models"),
)
"""Parts of paths by which a page belongs to a link that it does not lie below, the first that fits."""


def here(path: str) -> str | None:
    """The link that a page belongs to."""
    below = (label for label, to, _ in NAVIGATION if path == to or (to != "/" and path.startswith(f"{to}/")))
    return next((label for part, label in ELSEWHERE if part in path), None) or next(below, None)


def opens(who: Principal, path: str) -> bool:
    """Whether the page is one that somebody may see: as the others of its link, but for the form of whoever only submits."""
    shown = next((scope for label, _, scope in NAVIGATION if label == here(path)), None)
    needed = Scope.DELETIONS_WRITE if path == "/ui/tickets/new" else shown
    return needed is None or who.may(needed)


class SignInFirst(Exception):
    """Nobody is signed in. Where a page was asked for, they come back to it."""


@dataclass(frozen=True)
class Shell:
    """The frame around a page, for its template."""

    root: str
    path: str
    who: Principal | None = None
    csrf: str = ""
    flash: str | None = None
    links: list[tuple[str, str]] = field(default_factory=list)

    @property
    def here(self) -> str | None:
        return here(self.path)

    def url(self, path: str) -> str:
        """A link to one of our paths, from wherever this page is."""
        return self.root + path.removeprefix("/")

    def may(self, scope: str) -> bool:
        return self.who is not None and self.who.may(Scope(scope))


def shell_of(request: Request, signed_in: Visitor | None) -> Shell:
    path = request.url.path
    if signed_in is None:
        return Shell(pages.root_of(path), path)
    who = signed_in.who
    links = [(label, to) for label, to, scope in NAVIGATION if scope is None or who.may(scope)]
    return Shell(pages.root_of(path), path, who, sessions.csrf(signed_in.token), signed_in.flash, links)


@dataclass(frozen=True)
class Visit:
    """One request of somebody who is signed in."""

    request: Request
    signed_in: Visitor
    form: FormData

    @property
    def who(self) -> Principal:
        return self.signed_in.who

    def may(self, scope: Scope) -> bool:
        return self.who.may(scope)

    def text(self, name: str) -> str:
        """A field of the form, without what editors leave around it; empty where there is none."""
        found = self.form.get(name, "")
        return found.strip() if isinstance(found, str) else ""

    def fields(self) -> dict[str, str]:
        """What was typed, to be shown again beside an error."""
        return {name: value for name, value in self.form.items() if isinstance(value, str) and name != "csrf"}

    def show(self, template: str, status: int = 200, /, **context: Any) -> Response:
        """A page in its frame."""
        return page(self.request, template, context, HEADERS, status)

    def go(self, session: Session, path: str, said: str) -> Response:
        """To a page that first says what was just done, or home, where that page is not for them. Part of the transaction that
        did it."""
        sessions.tell(session, self.signed_in.token, said)
        return redirect(self.request, path if opens(self.who, path) else "/")


def page(
    request: Request, name: str, context: dict[str, Any], headers: dict[str, str] = HEADERS, status: int = 200
) -> Response:
    """A page in the frame of whoever is signed in, or of nobody."""
    shell = shell_of(request, getattr(request.state, "visitor", None))
    return pages.render(request, name, context | {"shell": shell}, HEADERS | headers, status, pages.LIVELY)


def redirect(request: Request, path: str) -> Response:
    """Post, redirect, get: what was sent is not sent again when the page is loaded again."""
    return RedirectResponse(pages.root_of(request.url.path) + path.removeprefix("/"), 303)


class Seated:
    """FastAPI dependency of the pages: who is signed in, provided that they may, and that a form is one of ours."""

    async def __call__(self, request: Request, needed: SecurityScopes) -> AsyncIterator[Visit]:
        signed_in = await run_in_threadpool(visitor, request)
        if signed_in is None:
            raise SignInFirst
        request.state.visitor = signed_in
        allowed(signed_in.who, needed.scopes)
        if request.method in SAFE:
            yield Visit(request, signed_in, FormData())
            return
        check_origin(request)
        form = await read(request)
        try:
            sent = request.headers.get("X-CSRF-Token") or form.get("csrf")
            sessions.check_form(signed_in.token, sent if isinstance(sent, str) else "")
            yield Visit(request, signed_in, form)
        finally:
            await form.close()


async def read(request: Request) -> FormData:
    """The form that was sent, whole; its size was bounded before it came here."""
    return await request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=settings().max_body_bytes)


def check_origin(request: Request) -> None:
    """Raise `ForeignForm` unless a page of this very host sent the form, as far as a browser says. One that says neither by
    `Sec-Fetch-Site` nor by `Origin` is no browser, or too old a one."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    hosts = {request.headers.get("Host"), urlsplit(settings().public_url or "").netloc} - {"", None}
    ours = site == "same-origin" if site is not None else origin is not None and urlsplit(origin).netloc in hosts
    if not ours:
        raise ForeignForm("The form was sent from elsewhere. Open the page here and send it from there.")


@dataclass(frozen=True)
class Entry:
    """A further field of a confirmation."""

    name: str
    label: str
    help: str
    default: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """A confirmation: what will be done, what is known of it, and the way back."""

    title: str
    says: list[str]
    button: str
    back: str
    why: str = "For the audit log."
    facts: dict[str, Any] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    danger: bool = False


def confirm(visit: Visit, ask: Ask, error: ServiceError | None = None) -> Response:
    """Ask before it is done; with an error, what was typed is still there."""
    context = {"ask": ask, "error": error, "faults": faults(error), "typed": visit.fields()}
    return visit.show("shell/confirm.html", error.status if error else 200, **context)


seated = Seated()
Anybody = Annotated[Visit, Security(seated)]
MayFollow = Annotated[Visit, Security(seated, scopes=[Scope.DELETIONS_READ])]
MaySubmit = Annotated[Visit, Security(seated, scopes=[Scope.DELETIONS_WRITE])]
MayRetrain = Annotated[Visit, Security(seated, scopes=[Scope.RETRAINS_WRITE])]
MayApprove = Annotated[Visit, Security(seated, scopes=[Scope.POLICIES_APPROVE])]
MaySetPolicy = Annotated[Visit, Security(seated, scopes=[Scope.POLICIES_WRITE])]
MayAll = Annotated[Visit, Security(seated, scopes=[Scope.ADMIN])]
MayWatch = Annotated[Visit, Security(seated, scopes=[Scope.METRICS_READ])]


async def sign_in_first(request: Request, _: Exception) -> Response:
    """To the sign-in page, and back afterwards."""
    return to_sign_in(request)


def to_sign_in(request: Request) -> Response:
    """What a page asks for by itself takes the whole page there."""
    asked = f"{request.url.path}?{request.url.query}".removesuffix("?")
    to = "/ui/sign-in" + (f"?next={quote(asked)}" if request.method in SAFE and asked != "/" else "")
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"HX-Redirect": pages.root_of(request.url.path) + to[1:]})
    return redirect(request, to)


async def recall(request: Request) -> None:
    """Who is signed in, where no page has asked yet: a path that leads nowhere keeps its frame. Nobody, where that cannot be
    told."""
    if not hasattr(request.state, "visitor"):
        with suppress(ServiceError, SQLAlchemyError):
            request.state.visitor = await run_in_threadpool(visitor, request)


def failed(request: Request, error: ServiceError) -> Response:
    """The page that says what was wrong and what to do, in the words that the API uses."""
    return page(request, "shell/error.html", {"error": error}, HEADERS | error.headers, error.status)


Shape = TypeVar("Shape", bound=BaseModel)


class Faults(Invalid):
    """What is wrong with a form, field by field."""

    def __init__(self, found: Mapping[str, str]) -> None:
        name, sentence = next(iter(found.items()))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        super().__init__(f"{name}: {sentence}{more}" if name else f"{sentence}{more}")
        self.fields = dict(found)


def parsed(shape: type[Shape], typed: Mapping[str, Any]) -> Shape:
    """The form as the API's own shape, or `Faults` with the sentences that the API has for it."""
    try:
        return shape.model_validate(typed)
    except ValidationError as error:
        raise faults_of(error) from None


def faults_of(error: ValidationError) -> Faults:
    return Faults({".".join(str(step) for step in each["loc"]): words(each) for each in error.errors()})


Word = TypeVar("Word", bound=StrEnum)


def word(kind: type[Word], text: str) -> Word | None:
    """The word of that kind, or None: a filter that nobody knows filters nothing."""
    return next((each for each in kind if each == text), None)


def faults(error: ServiceError | None) -> dict[str, str]:
    """The sentences beside the fields."""
    return error.fields if isinstance(error, Faults) else {}


def text_of(upload: Any) -> str:
    """The text of an uploaded file; empty where none was chosen."""
    if not isinstance(upload, UploadFile) or not upload.filename:
        return ""
    data = upload.file.read(settings().max_body_bytes + 1)
    if len(data) > settings().max_body_bytes:
        raise TooLarge(f"A file may have {settings().max_body_bytes} bytes. Split it.")
    try:
        return str(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Invalid("The file is not UTF-8 text. Save it as such, one id a line.") from None
