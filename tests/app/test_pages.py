"""Which form a client gets."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin

import pytest

from app.pages import age, bytes_shown, csv_line, moment, number, preferred, root_of

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


NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "now"),
        (1, "1 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (7199, "120 min ago"),
        (7200, "2 h ago"),
        (172_800, "2 d ago"),
        (-90, "in 90 s"),
        (-864_000, "in 10 d"),
    ],
)
def test_ages_in_the_largest_unit_of_which_there_are_two(seconds: float, said: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == said
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == said


def test_figures_have_separators_and_sizes_a_unit() -> None:
    assert number(1234567) == "1,234,567"
    assert number(0.12345) == "0.1235"
    assert [bytes_shown(size) for size in (0, 1023, 1024, 5 * 2**20, 3 * 2**30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "3.0 GiB",
    ]


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+x", "'+x"),
        ("-x", "'-x"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ("\rx", '"\'\rx"'),
        (None, ""),
        (7, "7"),
    ],
)
def test_a_cell_is_never_a_formula(cell: object, written: str) -> None:
    assert csv_line([cell, "a,b"]) == f'{written},"a,b"\r\n'


@pytest.mark.parametrize(
    ("path", "root"),
    [("/", "./"), ("/ui/queue", "../"), ("/ui/batches/x/retry", "../../../"), ("/models/m/audit", "../../")],
)
def test_links_begin_where_the_page_is(path: str, root: str) -> None:
    assert root_of(path) == root
    assert urljoin(f"https://host/below{path}", root + "ui/queue") == "https://host/below/ui/queue"
