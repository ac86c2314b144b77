"""PDF documents: headings, paragraphs, pairs and tables on A4, the same bytes for the same content.

The fonts are those that every reader has (no file to ship), which hold Western European letters. Any other character is
written as its escape, \\u4f60, rather than left out: a record may not lose what it was told.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from reportlab.graphics.shapes import Circle, Drawing, Line, Rect, String
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, StyleSheet1
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    KeepTogether,
    ListFlowable,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

WITHIN = colors.HexColor("#e3ecf7")
INK, PALE, LINE = colors.HexColor("#1c2330"), colors.HexColor("#5b6472"), colors.HexColor("#cfd5de")
MARGIN = 20 * mm
WIDTH = A4[0] - 2 * MARGIN


def styles() -> StyleSheet1:
    made = StyleSheet1()
    plain = ParagraphStyle("plain", fontName="Helvetica", fontSize=9.5, leading=13, textColor=INK, spaceAfter=4)
    made.add(plain)
    made.add(ParagraphStyle("title", plain, fontName="Helvetica-Bold", fontSize=18, leading=22, spaceAfter=6))
    made.add(ParagraphStyle("heading", plain, fontName="Helvetica-Bold", fontSize=12, leading=16, spaceBefore=10))
    made.add(ParagraphStyle("lead", plain, fontSize=11, leading=15.5, spaceAfter=8))
    made.add(ParagraphStyle("cell", plain, fontSize=8.5, leading=11, spaceAfter=0))
    made.add(ParagraphStyle("name", plain, fontSize=8.5, leading=11, textColor=PALE, spaceAfter=0))
    made.add(ParagraphStyle("code", plain, fontName="Courier", fontSize=7.5, leading=10, spaceAfter=0))
    return made


STYLES = styles()


@dataclass(frozen=True)
class Interval:
    """What one line of a plot shows. `limit` and `floor` lie on either side of zero."""

    name: str
    estimate: float
    low: float
    high: float
    limit: float | None
    floor: float | None


def drawn(rows: Sequence[Interval]) -> Drawing:
    """Each line: the threshold's range as a box, the noise floor's as a darker one, the interval, the estimate."""
    reach = 1.1 * max(max(abs(row.low), abs(row.high), row.limit or 0.0, row.floor or 0.0) for row in rows) or 1.0
    left, step = 16 * mm, 9 * mm
    made = Drawing(WIDTH, step * len(rows) + 6 * mm)

    def at(value: float) -> float:
        return float(left + (WIDTH - left) * (value / reach + 1) / 2)

    for place, row in enumerate(rows):
        middle = made.height - step * (place + 0.5)
        for half, shade in ((row.limit, WITHIN), (row.floor, LINE)):
            if half is not None:
                box = Rect(at(-half), middle - 3 * mm, at(half) - at(-half), 6 * mm, fillColor=shade, strokeColor=None)
                made.add(box)
        made.add(Line(at(row.low), middle, at(row.high), middle, strokeColor=INK, strokeWidth=1.6))
        made.add(Circle(at(row.estimate), middle, 2.4, fillColor=INK, strokeColor=INK))
        made.add(String(0, middle - 3, western(row.name), fontName="Helvetica-Bold", fontSize=9, fillColor=INK))
    made.add(Line(at(0), 5 * mm, at(0), made.height, strokeColor=PALE, strokeWidth=0.5, strokeDashArray=[2, 2]))
    for value in (-reach / 1.1, 0.0, reach / 1.1):
        made.add(
            String(at(value), 0, f"{value:+.3f}", fontName="Helvetica", fontSize=7, fillColor=PALE, textAnchor="middle")
        )
    return made


class Document:
    """What is added comes one below the other; `bytes` is the file."""

    def __init__(self, title: str, foot: str) -> None:
        self.title, self.foot = title, foot
        self.flow: list[Flowable] = [Paragraph(safe(title), STYLES["title"])]

    def lead(self, text: str) -> None:
        self.flow.append(Paragraph(safe(text), STYLES["lead"]))

    def heading(self, text: str) -> None:
        self.flow.append(Paragraph(safe(text), STYLES["heading"]))

    def prose(self, *paragraphs: str) -> None:
        self.flow += [Paragraph(safe(text), STYLES["plain"]) for text in paragraphs]

    def bullets(self, items: Iterable[str]) -> None:
        rows = [Paragraph(safe(text), STYLES["plain"]) for text in items]
        self.flow.append(ListFlowable(rows, bulletType="bullet", start="•", leftIndent=12, bulletFontSize=8))

    def pairs(self, rows: Sequence[tuple[str, str]], *, code: frozenset[str] = frozenset()) -> None:
        """Names and values; those named in `code` are digests and the like."""
        cells = [
            [Paragraph(safe(name), STYLES["name"]), Paragraph(safe(value), STYLES["code" if name in code else "cell"])]
            for name, value in rows
        ]
        style = [("VALIGN", (0, 0), (-1, -1), "TOP"), *TIGHT]
        made = Table(cells, colWidths=[46 * mm, WIDTH - 46 * mm], splitInRow=1, style=style)
        self.flow += [made, Spacer(0, 4)]

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float]) -> None:
        """A table with its heads repeated on each page. `widths` are shares of the page's width."""
        cells = [[Paragraph(safe(head), STYLES["name"]) for head in heads]]
        cells += [[Paragraph(safe(cell), STYLES["cell"]) for cell in row] for row in rows]
        made = Table(
            cells, colWidths=[WIDTH * share for share in widths], repeatRows=1, splitInRow=1, style=[*GRID, *TIGHT]
        )
        self.flow += [made, Spacer(0, 6)]

    def intervals(self, rows: Sequence[Interval]) -> None:
        """Estimates as points on their intervals, each beside its threshold and noise floor, on one scale."""
        if rows:
            self.flow += [drawn(rows), Spacer(0, 4)]

    def together(self, begun: int) -> None:
        """Keep what was added since the flow had `begun` parts on one page, where it fits on one."""
        self.flow[begun:] = [KeepTogether(self.flow[begun:])]

    def bytes(self) -> bytes:
        out = io.BytesIO()
        made = BaseDocTemplate(
            out, pagesize=A4, title=self.title, author="Expunge", subject=self.foot, invariant=1, lang="en"
        )
        frame = Frame(MARGIN, MARGIN, WIDTH, A4[1] - 2 * MARGIN, 0, 0, 0, 0)
        made.addPageTemplates(PageTemplate(frames=[frame], onPage=self.below))
        made.build(list(self.flow))
        return out.getvalue()

    def below(self, canvas: Canvas, _: BaseDocTemplate) -> None:
        """The foot of each page."""
        canvas.setFont("Helvetica", 7.5)
        canvas.setFillColor(PALE)
        canvas.drawString(MARGIN, MARGIN - 8 * mm, western(self.foot))
        canvas.drawRightString(A4[0] - MARGIN, MARGIN - 8 * mm, f"page {canvas.getPageNumber()}")


TIGHT = [
    ("TOPPADDING", (0, 0), (-1, -1), 1.5),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
    ("LEFTPADDING", (0, 0), (0, -1), 0),
]
GRID = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LINEBELOW", (0, 0), (-1, 0), 0.6, PALE),
    ("LINEBELOW", (0, 1), (-1, -1), 0.3, LINE),
]


def western(text: str) -> str:
    """The text with every character that the fonts lack as its escape."""
    return "".join(c if encodable(c) else c.encode("unicode_escape").decode() for c in text)


def encodable(character: str) -> bool:
    try:
        character.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return character.isprintable() or character == "\n"


def safe(text: str) -> str:
    """Text for a paragraph, whose own language is a kind of XML."""
    return escape(western(text), quote=False).replace("\n", "<br/>")
