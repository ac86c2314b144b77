"""The OpenAPI schema as this service keeps it: every status that an operation may answer, by its number.

What holds for every operation is said here once; what an operation's own work may refuse stands with its route, as
`responses=may_answer(...)`.
"""

from typing import Any

from fastapi import FastAPI

from app.errors import Forbidden, NotFound, ServiceError, TooLarge, TooMany, TooSlow, Unauthenticated, Unavailable
from app.schemas import ProblemDetail

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetail"}}}
FROM_FASTAPI = ("HTTPValidationError", "ValidationError")
"""Its own shapes of a 422, which this service never sends."""


def describe(app: FastAPI) -> dict[str, Any]:
    """FastAPI's schema with the problems in it; made once, like FastAPI's."""
    if app.openapi_schema is None:
        made = FastAPI.openapi(app)
        shapes = made["components"]["schemas"]
        for name in FROM_FASTAPI:
            shapes.pop(name, None)
        shapes["ProblemDetail"] = ProblemDetail.model_json_schema()
        for path, methods in made["paths"].items():
            for operation in methods.values():
                complete(path, operation)
    assert app.openapi_schema is not None
    return app.openapi_schema


def complete(path: str, operation: dict[str, Any]) -> None:
    """Add the problems that come from what the operation is, and give each its real shape."""
    answers = operation["responses"]
    for status, title in titles(path, operation).items():
        answers.setdefault(status, {"description": title})
        if answers[status]["description"] == "Validation Error":  # FastAPI's word for it
            answers[status]["description"] = title
    for status in [status for status in answers if int(status) >= 400]:
        answers[status] = {"description": answers[status]["description"], "content": PROBLEM}
    operation["responses"] = dict(sorted(answers.items()))


def titles(path: str, operation: dict[str, Any]) -> dict[str, str]:
    """Statuses that need no word of the route's own."""
    found = named(ServiceError, Unavailable)
    if operation.get("security"):
        found |= named(Unauthenticated, Forbidden, TooMany)
    if "{" in path:
        found |= named(NotFound)
    if "requestBody" in operation:
        found |= named(TooLarge, TooSlow) | {"400": "The body cannot be read"}
    if "requestBody" in operation or operation.get("parameters"):
        found |= {"422": "The request is not as it must be, or it cannot be done"}
    return found


def named(*kinds: type[ServiceError]) -> dict[str, str]:
    return {str(kind.status): kind.title for kind in kinds}
