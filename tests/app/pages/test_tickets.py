"""The compliance pages: what is typed is not lost, an ids' list counts as it should, and exports are safe to open."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from app import config
from app.auth import Scope
from app.routes.pages import tickets as page
from app.tables import Ticket, TicketState
from tests.app import story
from tests.app.pages.browser import Browser, text, typed
from tests.app.pages.conftest import SignedIn

FORM = {"dataset": "people", "what": "samples", "reason": "erasure_request", "risk_tier": "standard"}


@pytest.fixture
def tool(signed_in: SignedIn) -> Browser:
    story.dataset()
    story.trained(policy=story.PATIENT)
    return signed_in("tool", Scope.DELETIONS_READ, Scope.DELETIONS_WRITE)


class TestSubmit:
    def test_ids_one_a_line(self, tool: Browser) -> None:
        key = typed(tool.get("/ui/tickets/new"), "key")
        sent = FORM | {"ids": " s-0001\r\n\r\ns-0002 \ns-0001\nstranger\n", "external_id": "case 7", "key": key}
        shown = text(tool.follow(tool.post("/ui/tickets/new", sent)))
        assert "is accepted. 1 of 4 lines repeated an id and count once." in shown
        assert "Samples accepted: 2." in shown
        assert "Ids that the manifest does not hold: 1." in shown
        assert "Ticket case 7" in shown
        (row,) = story.all_of(Ticket)
        assert (row.client, row.accepted, row.unknown, row.external_id) == ("tool", 2, 1, "case 7")

    def test_a_file_beside_what_is_pasted(self, tool: Browser) -> None:
        file = {"file": ("ids.txt", "\ufeffs-0003\ns-0004".encode(), "text/plain")}
        tool.follow(tool.post("/ui/tickets/new", FORM | {"ids": "s-0001"}, files=file))
        assert story.all_of(Ticket)[0].accepted == 3

    def test_subjects(self, tool: Browser) -> None:
        tool.follow(tool.post("/ui/tickets/new", FORM | {"ids": "p-1\np-2", "what": "subjects"}))
        assert story.all_of(Ticket)[0].accepted == 4

    def test_a_deadline_is_the_end_of_its_day(self, tool: Browser) -> None:
        tool.follow(tool.post("/ui/tickets/new", FORM | {"ids": "s-0001", "deadline": "2027-03-04"}))
        assert story.all_of(Ticket)[0].deadline_at == datetime(2027, 3, 4, 23, 59, 59, tzinfo=UTC)

    def test_sent_twice_it_is_one_ticket(self, tool: Browser) -> None:
        sent = FORM | {"ids": "s-0001", "key": typed(tool.get("/ui/tickets/new"), "key")}
        first, second = (tool.post("/ui/tickets/new", sent) for _ in range(2))
        assert first.headers["location"] == second.headers["location"]
        assert "is here already" in text(tool.follow(second))
        assert len(story.all_of(Ticket)) == 1

    def test_a_key_that_made_another_ticket_is_replaced(self, tool: Browser) -> None:
        """Somebody went back, changed the ids, and sent the form again."""
        key = typed(tool.get("/ui/tickets/new"), "key")
        tool.post("/ui/tickets/new", FORM | {"ids": "s-0001", "key": key})
        again = tool.post("/ui/tickets/new", FORM | {"ids": "s-0002", "key": key})
        assert again.status_code == 422
        assert "Use a new key" in text(again)
        assert typed(again, "key") != key
        assert tool.post("/ui/tickets/new", FORM | {"ids": "s-0002", "key": typed(again, "key")}).status_code == 303

    @pytest.mark.parametrize(
        ("wrong", "status", "sentence"),
        [
            ({"ids": ""}, 422, "Name at least one id"),
            ({"ids": "nobody"}, 422, "None of the ids stands in the manifest"),
            ({"dataset": "unknown"}, 404, "expunge datasets"),
            ({"dataset": ""}, 422, "dataset: String should have at least 1 character"),
            ({"reason": "because"}, 422, "reason: Input should be"),
            ({"deadline": "soon"}, 422, "deadline: Input should be a valid datetime"),
            ({"external_id": "taken"}, 409, "has a ticket already"),
            ({"ids": "x" * 600}, 422, "at most 512 characters"),
        ],
    )
    def test_a_refusal_says_the_api_s_sentence_and_keeps_what_was_typed(
        self, tool: Browser, wrong: dict[str, str], status: int, sentence: str
    ) -> None:
        story.submit(9, client="tool", external_id="taken")
        sent = FORM | {"ids": "s-0001\ns-0002", "external_id": "case 7", "deadline": "2027-03-04"} | wrong
        answer = tool.post("/ui/tickets/new", sent)
        assert answer.status_code == status
        assert sentence in text(answer)
        for name in ("ids", "external_id", "deadline"):
            assert typed(answer, name) == sent[name]
        assert len(story.all_of(Ticket)) == 1

    def test_more_ids_than_a_ticket_may_name(self, tool: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXPUNGE_MAX_IDS", "2")
        config.settings.cache_clear()
        answer = tool.post("/ui/tickets/new", FORM | {"ids": "s-0001\ns-0002\ns-0003"})
        assert answer.status_code == 413
        assert "split them into several tickets" in text(answer)

    def test_a_file_that_is_no_text(self, tool: Browser) -> None:
        answer = tool.post("/ui/tickets/new", FORM, files={"file": ("ids.txt", b"\xff\xfe\x00s", "text/plain")})
        assert answer.status_code == 422
        assert "not UTF-8" in text(answer)

    def test_who_may_only_submit_is_told_the_ticket_s_id(self, tool: Browser, signed_in: SignedIn) -> None:
        writer = signed_in("tool", Scope.DELETIONS_WRITE)
        assert '<input id="f-dataset"' in writer.get("/ui/tickets/new").text, "it may not list data sets"
        shown = text(writer.follow(writer.post("/ui/tickets/new", FORM | {"ids": "s-0001"})))
        assert str(story.all_of(Ticket)[0].id) in shown
        assert "Submit a ticket" in shown, "whoever only submits is ready for the next one"


class TestFollow:
    def test_a_client_sees_its_own_tickets_alone(self, tool: Browser) -> None:
        mine, theirs = story.submit(1, client="tool"), story.submit(2, client="another")
        shown = tool.get("/ui/tickets").text
        assert str(mine) in shown
        assert str(theirs) not in shown
        for path in ("", "/cancel"):
            assert tool.get(f"/ui/tickets/{theirs}{path}").status_code == 404
        assert tool.post(f"/ui/tickets/{theirs}/cancel", {"why": "x"}).status_code == 404
        for kind in ("csv", "json"):
            assert str(theirs) not in tool.get(f"/ui/tickets/export.{kind}").text
        assert "No ticket is like that" in text(tool.get("/ui/tickets?reference=nothing"))

    def test_overdue_ones_come_first(self, tool: Browser) -> None:
        late = story.submit(1, deadline=datetime.now(UTC) - timedelta(days=1))
        fresh = story.submit(2)
        shown = tool.get("/ui/tickets").text
        assert shown.index(str(late)) < shown.index(str(fresh))
        assert shown.count(f"/tickets/{late}") == 1, "and not twice"
        only = tool.get("/ui/tickets?overdue=true").text
        assert str(late) in only
        assert str(fresh) not in only

    def test_filters(self, tool: Browser) -> None:
        story.dataset("photos")
        first, second = story.submit(1, external_id="a"), story.submit(2, dataset="photos")
        for query, expected in (
            ("reference=a", [first]),
            ("dataset=photos", [second]),
            ("state=pending&dataset=people", [first]),
            ("state=fulfilled", [second]),
            ("state=nonsense", [first, second]),
        ):
            shown = tool.get(f"/ui/tickets?{query}").text
            assert [each for each in (first, second) if str(each) in shown] == expected, query

    def test_page_by_page(self, tool: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(page, "PAGE", 2)
        made = [story.submit(number) for number in range(5)]
        path, seen = "/ui/tickets", []
        while path:
            shown = tool.get(path).text
            seen.append([each for each in made if f"/tickets/{each}" in shown])
            older = shown.partition('href="?')[2].partition('"')[0].replace("&amp;", "&")
            path = f"/ui/tickets?{older}" if "cursor=" in older else ""
        assert seen == [made[3:], made[1:3], made[:1]]
        assert tool.get("/ui/tickets?cursor=made-up").status_code == 422

    def test_a_ticket_from_its_first_state_to_its_last(self, tool: Browser, signed_in: SignedIn) -> None:
        ticket_id = story.submit(1, 2, external_id="case")
        shown = tool.get(f"/ui/tickets/{ticket_id}").text
        assert 'hx-trigger="every 5s"' in shown
        stamp = shown.partition("?seen=")[2].partition('"')[0]
        asks = {"headers": {"HX-Request": "true"}}
        assert tool.get(f"/ui/tickets/{ticket_id}?seen={stamp}", **asks).status_code == 200
        root = signed_in("root")
        root.post("/ui/models/m/flush", {"why": "now"})
        story.work(1)
        changed = tool.get(f"/ui/tickets/{ticket_id}?seen={stamp}", **asks)
        assert changed.headers["hx-refresh"] == "true"
        assert "1 of 1 model" in text(tool.get(f"/ui/tickets/{ticket_id}"))
        story.retrain(1)
        story.work(1)
        assert "hx-trigger" not in tool.get(f"/ui/tickets/{ticket_id}").text, "nothing more will happen"

    def test_taking_one_back(self, tool: Browser) -> None:
        ticket_id = story.submit(1)
        asked = tool.get(f"/ui/tickets/{ticket_id}/cancel")
        assert "Cancel the ticket" in text(asked)
        unsaid = tool.post(f"/ui/tickets/{ticket_id}/cancel", {"why": ""})
        assert unsaid.status_code == 422
        assert story.ticket(ticket_id).state is TicketState.PENDING
        shown = text(tool.follow(tool.post(f"/ui/tickets/{ticket_id}/cancel", {"why": "sent by mistake"})))
        assert "The ticket is cancelled." in shown
        assert "sent by mistake" in shown, "the timeline says why"
        again = tool.post(f"/ui/tickets/{ticket_id}/cancel", {"why": "again"})
        assert again.status_code == 409
        assert typed(again, "why") == "again"


class TestExport:
    def test_what_a_spreadsheet_would_run_is_text(self, tool: Browser) -> None:
        for number, name in enumerate(('=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\tx", "plain", 'a,"b"')):
            tool.post("/ui/tickets/new", FORM | {"ids": f"s-{number:04d}", "external_id": name})
        story.submit(10, client="tool", external_id="=1+1")
        answer = tool.get("/ui/tickets/export.csv")
        assert answer.headers["content-disposition"] == 'attachment; filename="tickets.csv"'
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        found = {row["external_id"] for row in rows}
        assert {'\'=HYPERLINK("http://x")', "'+1", "'-1", "'@SUM(A1)", "'=1+1", "plain", 'a,"b"'} <= found
        assert not [name for row in rows for name in row.values() if name.startswith(("=", "+", "-", "@"))]
        assert all(row["models"] == "m: pending" for row in rows)

    def test_all_tickets_of_the_filter_part_by_part(self, tool: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(page, "CHUNK", 2)
        made = [str(story.submit(number, external_id="x" if number == 3 else None)) for number in range(5)]
        rows = list(csv.DictReader(io.StringIO(tool.get("/ui/tickets/export.csv").text)))
        assert [row["id"] for row in rows] == made[::-1]
        listed = json.loads(tool.get("/ui/tickets/export.json").text)
        assert [each["id"] for each in listed] == made[::-1]
        assert [each["id"] for each in json.loads(tool.get("/ui/tickets/export.json?reference=x").text)] == [made[3]]

    def test_of_none(self, tool: Browser) -> None:
        assert json.loads(tool.get("/ui/tickets/export.json").text) == []
        assert tool.get("/ui/tickets/export.csv").text.count("\n") == 1

    def test_no_id_of_a_sample_is_in_it(self, tool: Browser) -> None:
        story.submit(1)
        assert "s-0001" not in tool.get("/ui/tickets/export.csv").text + tool.get("/ui/tickets/export.json").text
