"""The page of samples that stand out: whom it names them to, and that it takes a yes to delete any."""

import pytest

from app.auth import Scope
from app.tables import Reason, Ticket
from tests.app import story, test_exposure
from tests.app.pages.browser import Browser, text, typed
from tests.app.pages.conftest import SignedIn

PAGE = "/ui/models/m/exposure"


@pytest.fixture
def keeper(signed_in: SignedIn) -> Browser:
    return signed_in("keeper")


@pytest.fixture
def standing_out(database: str) -> int:
    """Samples 3 and 7 of a version do."""
    story.dataset()
    made = story.trained(policy=story.PATIENT)
    test_exposure.look(test_exposure.found((7, 12.0), (3, 9.0)))
    return made


def test_it_names_them_with_how_far_they_lie(standing_out: int, keeper: Browser) -> None:
    shown = text(keeper.get(PAGE))
    assert "s-0007 120 12.0 s-0003 90 9.0" in shown
    assert "outlying from z 6" in shown
    assert PAGE.removeprefix("/") in keeper.get("/ui/models/m").text


def test_nobody_else_sees_it(standing_out: int, signed_in: SignedIn) -> None:
    other = signed_in("engineer", Scope.DELETIONS_READ, Scope.DELETIONS_WRITE)
    assert other.get(PAGE).status_code == 403
    assert other.post(PAGE, {"sample": "s-0007", "why": "x"}).status_code == 403
    assert PAGE.removeprefix("/") not in other.get("/ui/models/m").text


def test_a_yes_makes_one_ticket_however_often_it_is_clicked(standing_out: int, keeper: Browser) -> None:
    sent = {"sample": ["s-0007"], "why": "a mislabelled scan", "key": typed(keeper.get(PAGE), "key")}
    first, again = keeper.post(PAGE, sent), keeper.post(PAGE, sent)
    assert "The samples are tombstoned." in text(keeper.follow(first))
    assert again.headers["location"] == first.headers["location"]
    (ticket,) = story.all_of(Ticket)
    assert (ticket.reason, ticket.accepted, ticket.client) == (Reason.OUTLIER, 1, "keeper")
    assert "s-0007" not in text(keeper.get(PAGE))


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ({"sample": ["s-0007"]}, "why"),
        ({"why": "a mislabelled scan"}, "sample_ids"),
        ({"sample": ["s-0001"], "why": "a mislabelled scan"}, "not among the 2 that are outlying"),
        ({"sample": ["s-0007"], "why": "s-0007 is wrong"}, "without the id of a sample"),
    ],
    ids=["no-reason", "none-ticked", "another", "named"],
)
def test_what_is_refused_keeps_what_was_chosen(
    standing_out: int, keeper: Browser, sent: dict[str, object], says: str
) -> None:
    answer = keeper.post(PAGE, sent)
    assert answer.status_code in (409, 422)
    assert says in text(answer)
    assert ('value="s-0007" checked' in answer.text) is (sent.get("sample") == ["s-0007"])
    assert story.all_of(Ticket) == []


def test_a_form_that_was_changed_after_it_was_sent_gets_a_key_of_its_own(standing_out: int, keeper: Browser) -> None:
    sent = {"sample": ["s-0007"], "why": "a mislabelled scan", "key": "k" * 99}
    assert keeper.post(PAGE, sent).status_code == 303
    other = sent | {"sample": ["s-0003"]}
    answer = keeper.post(PAGE, other)
    assert answer.status_code == 422
    assert keeper.post(PAGE, other | {"key": typed(answer, "key")}).status_code == 303
    assert len(story.all_of(Ticket)) == 2


def test_it_says_why_there_is_nothing_to_see(database: str, keeper: Browser) -> None:
    story.dataset()
    story.trained()
    assert "The policy does not ask for it." in text(keeper.get(PAGE))
