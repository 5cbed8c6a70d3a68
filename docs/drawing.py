"""Diagrams as SVG: boxes, small pictures, and arrows between them, placed by hand.

Colors are those of Okabe and Ito, which color-blind readers tell apart. All is drawn on white, so
that a figure reads the same on a dark page.
"""

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

WIDTH = 720  # of each figure, in pixels
LINE = 18  # from one line of a text to the next
INK, BLUE, ORANGE, GREEN, PURPLE = "#222222", "#0072B2", "#E69F00", "#009E73", "#CC79A7"
TIMES = "\N{MULTIPLICATION SIGN}"
HEAD = 7  # length of an arrow's head
LEGEND = 30  # its height


class Look(NamedTuple):
    """How a kind of box is drawn, and what the legend calls it."""

    fill: str
    edge: str
    ink: str
    name: str = ""


LEARNS = Look(BLUE, BLUE, "white", "learns")
FROZEN = Look("#D8D8D8", "#8A8A8A", INK, "frozen")
ASKED = Look("#FFF4DD", ORANGE, INK, "what training asks for")
PLAIN = Look("white", "#8A8A8A", INK)


class Place(NamedTuple):
    """The rectangle that a part takes."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def center(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


class Figure:
    """A diagram, part by part; arrows go between parts by their names."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.places: dict[str, Place] = {}
        self.parts: list[str] = []
        self.looks: set[Look] = set()  # of which the legend tells

    def box(self, name: str, place: Sequence[float], text: str, look: Look = PLAIN) -> None:
        """A rounded box (x, y, width, height) with lines of text in its middle."""
        where = self.places[name] = Place(*place)
        self.parts.append(
            f'<rect x="{where.x:g}" y="{where.y:g}" width="{where.width:g}"'
            f' height="{where.height:g}" rx="6" fill="{look.fill}" stroke="{look.edge}"'
            ' stroke-width="1.5"/>'
        )
        self.text(*where.center, text, look.ink)
        self.looks.add(look)

    def picture(
        self, name: str, place: Sequence[float], inside: Sequence[str], caption: str = ""
    ) -> None:
        """A small square picture (x, y, side) of shapes in 100 x 100; its caption is below it."""
        x, y, side = place
        where = self.places[name] = Place(x, y, side, side)
        self.parts.append(
            f'<svg x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" viewBox="0 0 100 100">'
            + "".join(inside)
            + "</svg>"
            f'<rect x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" fill="none"'
            f' stroke="{INK}"/>'
        )
        if caption:
            lines = caption.count("\n")
            self.text(where.center[0], where.bottom + 12 + lines * LINE / 2, caption)

    def text(
        self, x: float, y: float, text: str, ink: str = INK, anchor: str = "middle", size: int = 14
    ) -> None:
        """Lines of text around a point."""
        lines = text.split("\n")
        top = y - LINE * (len(lines) - 1) / 2 + size * 0.35
        for number, line in enumerate(lines):
            self.parts.append(
                f'<text x="{x:g}" y="{top + number * LINE:g}" fill="{ink}" font-size="{size}"'
                f' text-anchor="{anchor}">{escape(line)}</text>'
            )

    def chain(self, *names: str) -> None:
        """Arrows from each part to the next."""
        for start, end in pairwise(names):
            self.arrow(start, end)

    def arrow(self, start: str, end: str, both: bool = False) -> None:
        """A straight one between parts that face each other."""
        self.line(_route(self.places[start], self.places[end]), both)

    def line(self, points: Sequence[tuple[float, float]], both: bool = False) -> None:
        """A line through points, with a head at its end or at both."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        start = ' marker-start="url(#head)"' if both else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.5"'
            f'{start} marker-end="url(#head)"/>'
        )

    def svg(self, title: str) -> str:
        """The whole file, with a legend of what boxes mean."""
        height = self.height + LEGEND
        self._legend(self.height + 6)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
            f' viewBox="0 0 {WIDTH} {height}" font-family="Helvetica, Arial, sans-serif"'
            f' role="img">\n<title>{escape(title)}</title>\n<defs>{DEFINITIONS}</defs>\n'
            f'<rect width="{WIDTH}" height="{height}" rx="10" fill="white"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )

    def _legend(self, y: float) -> None:
        x = 16
        for look in (look for look in (LEARNS, FROZEN, ASKED) if look in self.looks):
            self.parts.append(
                f'<rect x="{x:g}" y="{y:g}" width="20" height="14" rx="3" fill="{look.fill}"'
                f' stroke="{look.edge}" stroke-width="1.5"/>'
            )
            self.text(x + 27, y + 7, look.name, anchor="start", size=13)
            x += 27 + 8 * len(look.name) + 24


def _route(start: Place, end: Place) -> list[tuple[float, float]]:
    """From the edge of one place to that of another, in the middle of what they share."""
    top, bottom = max(start.y, end.y), min(start.bottom, end.bottom)
    if bottom > top:
        middle, forward = (top + bottom) / 2, end.x > start.x
        return [
            (start.right if forward else start.x, middle),
            (end.x if forward else end.right, middle),
        ]
    left, right = max(start.x, end.x), min(start.right, end.right)
    assert right > left, "these parts do not face each other: draw a line"
    middle, downward = (left + right) / 2, end.y > start.y
    return [
        (middle, start.bottom if downward else start.y),
        (middle, end.y if downward else end.bottom),
    ]


# ------------------------------------------------------------------------------ small pictures

# Where the two things are that the small pictures show, a round one and a square one.
TARGET, RADIUS, NEIGHBOR = (35, 60), 20, (72, 30)
DEFINITIONS = (
    f'<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="{HEAD}"'
    f' markerHeight="{HEAD}" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
    f'<path d="M0,0 L10,5 L0,10 z" fill="{INK}"/></marker>'
    '<radialGradient id="warm"><stop offset="0.1" stop-color="#E69F00"/>'
    '<stop offset="1" stop-color="#E69F00" stop-opacity="0"/></radialGradient>'
    '<radialGradient id="light"><stop offset="0.4" stop-color="white"/>'
    '<stop offset="1" stop-color="white" stop-opacity="0"/></radialGradient>'
)


def shape(what: str, color: str, more: str = "") -> str:
    """The round target or its square neighbor."""
    if what == "target":
        return f'<circle cx="{TARGET[0]}" cy="{TARGET[1]}" r="{RADIUS}" fill="{color}"{more}/>'
    x, y = NEIGHBOR[0] - 17, NEIGHBOR[1] - 17
    return f'<rect x="{x}" y="{y}" width="34" height="34" fill="{color}"{more}/>'


def ground(color: str) -> str:
    """What is behind all else."""
    return f'<rect width="100" height="100" fill="{color}"/>'


def scene() -> list[str]:
    """A picture of two things: a round one and a square one."""
    return [ground("#E8EEF2"), shape("neighbor", PURPLE), shape("target", ORANGE)]


def response(*spots: tuple[tuple[int, int], int]) -> list[str]:
    """A response map over the gray picture: spots (center, radius)."""
    gray = [ground("#555555"), shape("neighbor", "#777777"), shape("target", "#6A6A6A")]
    return gray + [_spot(spot, "warm") for spot in spots]


def seen(name: str, *spots: tuple[tuple[int, int], int]) -> list[str]:
    """What spots let through of the picture; the name is of the mask in the file."""
    mask = "".join(_spot(spot, "light") for spot in spots)
    return [
        f'<mask id="{name}">{mask}</mask>{ground("black")}<g mask="url(#{name})">',
        *scene(),
        "</g>",
    ]


def mask(*things: str) -> list[str]:
    """A mask, white on black, of the target or of the things that are named."""
    return [ground("#222222"), *(shape(what, "white") for what in things or ("target",))]


def coarse_mask(cells: int) -> list[str]:
    """The mask of the target in so many cells a side."""
    side = 100 // cells
    middles = range(side // 2, 100, side)
    squares = (
        f'<rect x="{x - side // 2}" y="{y - side // 2}" width="{side}" height="{side}"'
        ' fill="white" shape-rendering="crispEdges"/>'
        for y in middles
        for x in middles
        if (x - TARGET[0]) ** 2 + (y - TARGET[1]) ** 2 < 1.1 * RADIUS**2
    )
    return [ground("#222222"), *squares]


def sure_label() -> list[str]:
    """Surely object, open, surely background."""
    circle = '<circle cx="{}" cy="{}" r="{}" fill="{}"/>'
    return [
        ground("#222222"),
        circle.format(*TARGET, 27, "#8A8A8A"),
        circle.format(*TARGET, 17, "white"),
    ]


def pairs() -> list[str]:
    """Pairs of sure pixels on the same side, and across the boundary."""
    dot = '<circle cx="{}" cy="{}" r="4" fill="{}"/>'
    line = '<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{}" stroke-width="3"/>'
    parts = sure_label()
    for color, ends in (
        (GREEN, ((28, 54, 40, 68), (66, 24, 86, 40))),
        (ORANGE, ((40, 58, 72, 70), (26, 70, 12, 90))),
    ):
        for left, top, right, bottom in ends:
            parts.append(line.format(left, top, right, bottom, color))
            parts += [dot.format(left, top, color), dot.format(right, bottom, color)]
    return parts


def boundaries() -> list[str]:
    """The outlines of both things."""
    outline = ' stroke="white" stroke-width="4"'
    return [ground("#222222"), shape("neighbor", "none", outline), shape("target", "none", outline)]


def centers() -> list[str]:
    """Arrows from within each thing to its center."""
    parts = [ground("#E8EEF2"), shape("neighbor", "#CFCFCF"), shape("target", "#CFCFCF")]
    for (x, y), reach in ((TARGET, 17), (NEIGHBOR, 15)):
        for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            start, end = (x + reach * right, y + reach * down), (x + 5 * right, y + 5 * down)
            parts.append(
                f'<line x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"'
                f' stroke="{INK}" stroke-width="2" marker-end="url(#head)"/>'
            )
    return parts


def regions() -> list[str]:
    """The picture under a grid."""
    lines = (
        f'<path d="M{at},0 V100 M0,{at} H100" stroke="{INK}" stroke-width="0.7"/>'
        for at in range(10, 100, 10)
    )
    return [*scene(), *lines]


def surroundings() -> list[str]:
    """A mask of all but the two things."""
    return [ground("white"), shape("target", "#222222"), shape("neighbor", "#222222")]


def _spot(spot: tuple[tuple[int, int], int], fill: str) -> str:
    (x, y), radius = spot
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="url(#{fill})"/>'
