"""The pages in a real browser: by keyboard, on a phone, in the dark, on paper; nothing fails and nothing comes from elsewhere."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import Enter, World

pytestmark = pytest.mark.service

PHONE = {"viewport": {"width": 375, "height": 800}}
DESK = {"viewport": {"width": 1280, "height": 900}}
LOOKS = {
    "desk": DESK | {"color_scheme": "light"},
    "dark": DESK | {"color_scheme": "dark"},
    "phone": PHONE | {"color_scheme": "light"},
}


def pages(world: World) -> dict[str, tuple[str, str]]:
    """Name to seat and path of each page."""
    known = world.known
    return {
        "home": ("operator", "/"),
        "tickets": ("compliance", "/ui/tickets"),
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
        "policy-past": ("operator", "/ui/policies/lenet-mnist/past?ue=0.08"),
        "policy-history": ("operator", "/ui/policies/lenet-mnist/history"),
        "models": ("engineer", "/ui/models"),
        "model": ("engineer", "/ui/models/lenet-mnist"),
        "version": ("engineer", "/ui/versions/lenet-mnist@current"),
        "audit": ("engineer", "/models/lenet-mnist@current/audit"),
        "schedules": ("operator", "/ui/schedules"),
        "system": ("operator", "/ui/system"),
    }


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_sound_and_fits(world: World, person: Enter, look: str) -> None:
    """Without findings of axe that are serious, and no wider than the screen."""
    people, found = {}, {}
    axe = Axe()
    for name, (seat, path) in pages(world).items():
        somebody = people.get(seat) or people.setdefault(seat, person(seat, **LOOKS[look]))
        page = somebody.open(path)
        somebody.shot(f"{name}-{look}")
        width = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if width > 0:
            found[name] = [f"{width} px too wide"]
        for violation in axe.run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                places = [node["html"][:160] for node in violation["nodes"][:3]]
                found.setdefault(name, []).append(f"{violation['id']}: {places}")
    assert found == {}
