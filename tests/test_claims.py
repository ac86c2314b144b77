"""What the product must never say of an update: the report, its page and the documentation are read for it.

Quoted words (as in the list of what is not said) and words after a negation are no claims.
"""

import json
import re
from pathlib import Path

import pytest

from app.evidence import LIMITS_OF_A_RETRAIN, LIMITS_OF_AN_UPDATE
from tests import test_audit_page as page

ROOT = Path(__file__).parent.parent
TEXTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "app/templates").rglob("*.html")])
SOURCES = sorted((ROOT / "app/evidence").glob("*.py"))

CLAIMS = {
    "removed": r"\b(data|influence|traces?)\b(?: (?:is|are|was|were|has been|have been))? (?:removed|erased|eliminated|taken out)"
    r"(?! from (?:later|any) training)",
    "from the model": r"\b(?:removed|erased|deleted) from the (?:model|weights|network)",
    "fully": r"\b(?:fully|completely|entirely|permanently|truly) (?:deleted|removed|erased|forgotten|unlearned|unlearnt)",
    "equivalent": r"\b(?:equivalent|identical|same as) (?:to )?(?:a )?retrain",
    "certified": r"\b(?:certif(?:y|ied|ies|icate)|guarantee[sd]?|provabl[ey])\b",
    "compliant": r"\b(?:GDPR|legally)[- ]?complian|\bcompliant with the (?:GDPR|law)",
    "anonymous": r"\banonym(?:ous|ised|ized|ity)",
    "without estimated": r"\b(?:UE|MU) ?(?:=|≈|is) ?[+−-]?\d",
    "significance": r"\bp ?(?:>|≥|>=) ?0?\.\d|\bno significant difference",
    "no information": r"\bno (?:information|traces?|influence) (?:remains?|is left|are left)",
    "coin": r"\b50 ?% ?(?:⇒|=>|means|, so|shows)",
}
NEGATED = re.compile(
    r"\b(?:no|not|never|nothing|neither|nor|cannot|without|less than)\b[^.;:]{0,60}$|\babsence of(?: a)? $",
    re.IGNORECASE,
)
QUOTED = re.compile(r'"[^"\n]*"|“[^”]*”')


def claims(text: str) -> list[str]:
    """What is claimed in a text, each with its words."""
    plain = " ".join(text.split())
    return [
        f"{name}: ...{plain[max(0, match.start() - 40) : match.end() + 20]}..."
        for name, pattern in CLAIMS.items()
        for match in re.finditer(pattern, plain, flags=re.IGNORECASE)
        if not NEGATED.search(plain[max(0, match.start() - 80) : match.start()])
    ]


def prose(path: Path) -> str:
    """A page without what it quotes: there, words are mentioned and not used."""
    text = path.read_text()
    if path.suffix == ".html":
        return re.sub(r"\{#.*?#\}|\{%.*?%\}|<[^>]*>", " ", text, flags=re.DOTALL)
    code = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    return QUOTED.sub(" ", re.sub(r"\n(?=[^\n#|-])", " ", code))


@pytest.mark.parametrize(
    "said",
    [
        "the data was removed",
        "influence removed",
        "their influence is taken out",
        "fully deleted from the model",
        "the samples were erased from the weights",
        "it is equivalent to retraining",
        "equivalent to a retrain",
        "certified unlearning",
        "that is guaranteed",
        "GDPR-compliant",
        "the model is anonymous",
        "UE=0.01",
        "MU is -0.003",
        "passed (p>0.05)",
        "p > .05",
        "there is no significant difference",
        "no information remains",
        "MIA 50 % ⇒ forgotten",
    ],
)
def test_each_is_noticed(said: str) -> None:
    assert claims(f"After the update {said}, says the page.")


@pytest.mark.parametrize(
    "said",
    [
        "No verdict claims that data were removed from the model.",
        "It is not equivalent to retraining.",
        "Nothing here is guaranteed.",
        "estimated UE +0.021 [-0.040, +0.079] within ±0.15",
        "the samples are removed from later training sets",
        "the absence of a significant difference is no evidence",
    ],
)
def test_what_is_not_claimed_may_be_named(said: str) -> None:
    assert claims(said) == []


def test_a_page_is_read_but_for_what_it_quotes(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text('Never said: "certified", "fully\ndeleted".\n\nThe update is fully\nforgotten.\n')
    assert [claim.partition(":")[0] for claim in claims(prose(file))] == ["fully"]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_page_claims_too_much(path: Path) -> None:
    assert claims(prose(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_sentence_of_the_report_does(path: Path) -> None:
    literals = re.findall(r'"((?:[^"\\\n]|\\.)*)"', path.read_text())
    assert literals
    assert claims(" ".join(literals)) == []


@pytest.mark.parametrize("kind", page.KINDS)
def test_no_report_does(kind: str) -> None:
    made = page.KINDS[kind]()
    assert claims(json.dumps(made.model_dump(mode="json"), ensure_ascii=False)) == []
    assert claims(page.Page(page.render(made)).text) == []


def test_limits_say_estimate_and_retrain() -> None:
    said = " ".join(LIMITS_OF_AN_UPDATE)
    assert "MU and UE are estimates" in said
    assert "no retrained model existed" in said
    assert "back-ups" in said
    assert "back-ups" in " ".join(LIMITS_OF_A_RETRAIN)


def test_the_words_that_are_not_used_are_listed() -> None:
    listed = (ROOT / "docs/verdict.md").read_text()
    for word in ("fully deleted", "equivalent to retraining", "certified", "guaranteed", "GDPR-compliant", "anonymous"):
        assert f'"{word}"' in " ".join(listed.split()), word
