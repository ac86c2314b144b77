"""Which form a client gets."""

import pytest

from app.pages import moment, preferred

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("application/json", False),
        ("*/*", False),
        ("", False),
        ("text/html;q=0.5, application/json", False),
        ("text/html, application/json;q=0.9", True),
        ("text/html; q=0.5 , application/json;q=0.4", True),
        ("application/json, text/html", False),
        ("text/html;q=0", False),
        ("text/html;q=garbage", False),
        ("text/html;level=1;q=0.7", True),
        (",;,", False),
    ],
)
def test_html_only_where_it_is_preferred(accept: str, html: bool) -> None:
    assert (preferred(accept, ["application/json", "text/html"]) == "text/html") is html


def test_moments_are_shown_to_the_second() -> None:
    assert moment(None) == "–"
    assert moment("2026-01-02T03:04:05.678+00:00") == "2026-01-02 03:04:05 UTC"
    assert moment("2026-01-02T03:04:05+02:00") == "2026-01-02 01:04:05 UTC"
