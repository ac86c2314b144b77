"""The pages in a real browser: by keyboard, on a phone, in the dark, on paper; nothing fails and nothing comes from elsewhere."""

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from app import runs
from app.db import transaction
from app.tables import Batch
from tests.app import story
from tests.app.pages import scene
from tests.browser.conftest import Enter, Person, World

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("browser")]  # one world for all of them

PHONE = {"viewport": {"width": 375, "height": 800}}
DESK = {"viewport": {"width": 1280, "height": 900}}
LOOKS: dict[str, dict[str, Any]] = {
    "desk": DESK | {"color_scheme": "light"},
    "dark": DESK | {"color_scheme": "dark"},
    "phone": PHONE | {"color_scheme": "light"},
}
RULES: dict[str, list[str]] = {
    "dark": ["color-contrast", "link-in-text-block"],
    "phone": ["scrollable-region-focusable", "target-size", "meta-viewport", "color-contrast"],
}
"""What axe is asked of a page in another look, beside all that it was asked of it on a desk: the markup is the same."""
OF_THE_REPORT = {"scrollable-region-focusable"}
"""What axe finds on the audit report, whose insides are no page's of ours."""


def pages(world: World) -> dict[str, tuple[str, str]]:
    """Name to seat and path of each page."""
    known = world.known
    return {
        "home": ("operator", "/"),
        "home-compliance": ("compliance", "/"),
        "tickets": ("compliance", "/ui/tickets"),
        "tickets-none": ("compliance", "/ui/tickets?reference=nothing"),
        "ticket-new": ("compliance", "/ui/tickets/new"),
        "ticket-open": ("compliance", f"/ui/tickets/{known.open}"),
        "ticket-done": ("compliance", f"/ui/tickets/{known.fulfilled}"),
        "queue": ("operator", "/ui/queue"),
        "batches": ("operator", "/ui/batches"),
        "batch-running": ("operator", f"/ui/batches/{known.running}"),
        "batch-published": ("approver", f"/ui/batches/{known.published}"),
        "batch-quarantined": ("operator", f"/ui/batches/{known.quarantined}"),
        "confirm": ("operator", f"/ui/batches/{known.quarantined}/retry"),
        "decisions": ("approver", "/ui/decisions"),
        "approve": ("approver", "/ui/models/resnet-photos/approvals/1/approve"),
        "proposal": ("approver", f"/ui/policies/lenet-mnist/proposals/{known.proposal}"),
        "policies": ("operator", "/ui/policies"),
        "policy": ("operator", "/ui/policies/lenet-mnist"),
        "policy-edit": ("operator", "/ui/policies/lenet-mnist/edit"),
        "policy-json": ("operator", "/ui/policies/lenet-mnist/edit?how=json"),
        "policy-past": ("operator", "/ui/policies/lenet-mnist/past?ue=0.08"),
        "policy-history": ("operator", "/ui/policies/lenet-mnist/history"),
        "models": ("engineer", "/ui/models"),
        "model": ("engineer", "/ui/models/lenet-mnist"),
        "version": ("engineer", "/ui/versions/lenet-mnist@current"),
        "audit": ("engineer", "/models/lenet-mnist@current/audit"),
        "schedules": ("operator", "/ui/schedules"),
        "schedule": ("operator", f"/ui/schedules/{known.schedule}"),
        "system": ("operator", "/ui/system"),
    }


def serious(page: Page, look: str, allowed: set[str]) -> list[str]:
    """What axe finds of a page that keeps somebody out."""
    asked = {"runOnly": {"type": "rule", "values": RULES[look]}} if look in RULES else {}
    return [
        f"{each['id']}: {[node['html'][:160] for node in each['nodes'][:3]]}"
        for each in Axe().run(page, options={"resultTypes": ["violations"]} | asked).response["violations"]
        if each["impact"] in ("serious", "critical") and each["id"] not in allowed
    ]


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_sound_and_fits(world: World, person: Enter, look: str) -> None:
    """Without findings of axe that are serious, and no wider than the screen."""
    people: dict[str, Person] = {}
    found = {}
    for name, (seat, path) in pages(world).items():
        somebody = people.get(seat) or people.setdefault(seat, person(seat, **LOOKS[look]))
        if name == "system":
            with world.inside():
                scene.workers()  # they have just written again
        page = somebody.open(path)
        somebody.shot(f"{name}-{look}", whole=name != "audit")
        wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        faults = [f"{wide} px too wide"] if wide > 0 else []
        if name != "audit" or look == "desk":  # it is ten pages long, and looks alike
            faults += serious(page, look, OF_THE_REPORT if name == "audit" else set())
        if faults:
            found[name] = faults
    assert found == {}


@pytest.mark.parametrize("look", LOOKS)
def test_the_door(world: World, stranger: Person, look: str) -> None:
    page = stranger.page
    page.set_viewport_size(LOOKS[look]["viewport"])
    page.emulate_media(color_scheme=LOOKS[look]["color_scheme"])
    page.goto(f"{world.url}/ui/queue")
    expect(page.get_by_label("API key")).to_be_focused()
    assert serious(page, look, set()) == []
    stranger.shot(f"sign-in-{look}")
    page.keyboard.type(world.keys["operator"])  # one may type at once
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/queue")


def test_compliance_with_the_keyboard_alone(world: World, person: Enter) -> None:
    """From home to a ticket that is submitted, a mistake on the way included."""
    somebody = person("compliance", **DESK)
    page, keys = somebody.page, somebody.page.keyboard
    somebody.tab_to("Submit a ticket")
    keys.press("Enter")
    page.wait_for_url("**/ui/tickets/new")
    somebody.tab_to("ids")
    keys.type("nobody-knows-this")
    somebody.tab_to("external_id")
    keys.type("by keyboard")
    somebody.tab_to("Submit")
    keys.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("None of the ids")
    assert page.locator("[name=ids]").input_value() == "nobody-knows-this"
    assert page.locator("[name=external_id]").input_value() == "by keyboard"
    somebody.watch.said.clear()  # the browser notes that the answer was 422
    somebody.tab_to("ids")
    keys.press("Control+a")
    keys.type("s-0201\ns-0202\ns-0201")
    somebody.tab_to("Submit")
    keys.press("Enter")
    page.wait_for_url(re.compile(r"/ui/tickets/[0-9a-f-]{36}$"))
    expect(page.get_by_role("status")).to_contain_text("1 of 3 lines repeated an id")
    expect(page.get_by_role("heading", level=1)).to_have_text("Ticket by keyboard")
    somebody.shot("ticket-accepted")
    page.reload()
    expect(page.get_by_role("status")).to_have_count(0)


def test_a_double_click_makes_one_ticket(world: World, person: Enter) -> None:
    page = person("compliance", **DESK).open("/ui/tickets/new")
    page.locator("[name=ids]").fill("s-0301")
    page.locator("[name=external_id]").fill("double")
    page.get_by_role("button", name="Submit").dblclick()
    page.wait_for_url(re.compile(r"/ui/tickets/[0-9a-f-]{36}$"))
    page.goto(f"{world.url}/ui/tickets?reference=double")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_a_file_of_ids(world: World, person: Enter) -> None:
    page = person("compliance", **PHONE).open("/ui/tickets/new")
    ids = "\n".join(story.sample(number) for number in range(400, 1400)).encode()
    page.locator("[name=file]").set_input_files({"name": "ids.txt", "mimeType": "text/plain", "buffer": ids})
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("status")).to_contain_text("Samples accepted: 1,000")


def test_the_operator_with_the_keyboard_alone(world: World, person: Enter) -> None:
    """From the queue to a quarantined batch, which gets its attempts back for a reason."""
    somebody = person("operator", **DESK)
    page, keys = somebody.page, somebody.page.keyboard
    somebody.tab_to("Queue")
    keys.press("Enter")
    page.wait_for_url("**/ui/queue")
    somebody.tab_to("Quarantined batch")
    keys.press("Enter")
    page.wait_for_url("**/ui/batches/*")
    somebody.tab_to("Try again")
    keys.press("Enter")
    page.wait_for_url("**/retry")
    somebody.tab_to("why")
    keys.type("the driver was updated")
    somebody.tab_to("Try again")
    keys.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("has its attempts back")
    expect(page.locator(".events")).to_contain_text("the driver was updated")


def test_the_approver_with_the_keyboard_alone(world: World, person: Enter) -> None:
    """From home to a request that passes a cap, which is approved as it was seen."""
    somebody = person("approver", **DESK)
    page, keys = somebody.page, somebody.page.keyboard
    for label, then in (("Decisions", "Decisions"), ("Approve", "Approve request 1")):
        somebody.tab_to(label)
        keys.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(then)
    somebody.tab_to("why")
    keys.type("the subjects asked for it together")
    somebody.tab_to("Approve")
    keys.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Request 1 is approved")


def test_the_engineer_with_the_keyboard_alone(world: World, person: Enter) -> None:
    """From home to a version, and to why it may be trusted."""
    somebody = person("engineer", **DESK)
    page, keys = somebody.page, somebody.page.keyboard
    for label, then in (
        ("Models", "Models"),
        ("lenet-mnist", "lenet-mnist"),
        ("lenet-mnist-v1", "lenet-mnist-v"),
        ("Why it may be trusted", "Audit of lenet-mnist-v"),
    ):
        somebody.tab_to(label)
        keys.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_contain_text(then)
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()


def test_a_policy_is_tried_and_then_proposed(world: World, person: Enter) -> None:
    somebody = person("operator", **DESK)
    page = somebody.open("/ui/policies/vgg-photos/edit")
    page.get_by_label("UE", exact=True).fill("0.2")
    page.get_by_role("button", name="Try it on past batches").click()
    expect(page.get_by_role("heading", name="Tried on past batches")).to_be_visible()
    assert page.get_by_label("UE", exact=True).input_value() == "0.2"
    page.get_by_role("button", name="Put in force").click()
    expect(page.get_by_role("status")).to_contain_text("somebody else must approve")
    approver = person("approver", **DESK)
    page = approver.open("/ui/decisions")
    page.get_by_role("link", name=re.compile("^vgg-photos, proposal")).click()
    page.get_by_role("link", name="Approve").click()
    page.get_by_label("Reason").fill("twice what two retrains differ by")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status")).to_contain_text("Policy 2 is in force")


def test_progress_is_followed_and_the_asking_ends(world: World, person: Enter) -> None:
    """The page shows what the worker says without being loaded again, and loads itself once the batch has ended."""
    somebody = person("operator", **DESK)
    page = somebody.open(f"/ui/batches/{world.known.running}")
    expect(page.locator("#live")).to_contain_text("step 24 of 40")
    with world.inside(), transaction() as session:
        row = session.get_one(Batch, world.known.running)
        row.step, row.progress = "step 36 of 40", 0.9
    expect(page.locator("#live")).to_contain_text("step 36 of 40", timeout=10_000)
    expect(page.locator("#live progress")).to_have_js_property("value", 90)
    with world.inside():
        with transaction() as session:
            row = session.get_one(Batch, world.known.running)
            epoch = row.lease_epoch
            lease = runs.lease_of(session, row, row.model)
        assert lease.epoch == epoch
        story.publish(lease)
    expect(page.locator("#live")).to_contain_text("published lenet-mnist-v", timeout=10_000)
    assert page.locator("[hx-trigger]").count() == 0


def test_colours_are_remembered(world: World, person: Enter) -> None:
    somebody = person("engineer", **DESK, color_scheme="light")
    page = somebody.page
    page.get_by_label("Colours").select_option("dark")
    dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page = somebody.open("/ui/models")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == dark
    page.get_by_label("Colours").select_option("")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != dark


def test_on_paper_there_are_no_buttons_and_ids_are_whole(world: World, person: Enter) -> None:
    somebody = person("compliance", **DESK)
    page = somebody.open(f"/ui/tickets/{world.known.fulfilled}")
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="Sign out").is_visible()
    assert not page.get_by_role("navigation").is_visible()
    code = page.locator("code.short", has_text=str(world.known.fulfilled)).first
    assert code.evaluate("e => e.scrollWidth <= e.clientWidth")
    somebody.shot("ticket-print")


def test_without_scripts_forms_are_plain_forms(world: World, person: Enter) -> None:
    somebody = person("operator", **DESK, java_script_enabled=False)
    page = somebody.open("/ui/models/resnet-photos/flush")
    page.get_by_label("Reason").fill("before the audit")
    page.get_by_role("button", name="Flush").click()
    expect(page.get_by_role("status")).to_contain_text("closes at once")


def test_signing_out_leaves_nothing_behind(world: World, person: Enter) -> None:
    somebody = person("engineer", **DESK)
    somebody.page.get_by_role("button", name="Sign out").click()
    somebody.page.wait_for_url("**/ui/sign-in")
    assert somebody.context.cookies() == []
    somebody.page.go_back()
    expect(somebody.page.get_by_label("API key")).to_be_visible()
