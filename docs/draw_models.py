"""The figures of docs/models.md: python docs/draw_models.py

Each model is a function that places its parts; docs/drawing.py draws them.
"""

from pathlib import Path

from drawing import (
    ASKED,
    FROZEN,
    GREEN,
    LEARNS,
    NEIGHBOR,
    TARGET,
    TIMES,
    Figure,
    boundaries,
    centers,
    coarse_mask,
    mask,
    pairs,
    regions,
    response,
    scene,
    seen,
    sure_label,
    surroundings,
)

FOLDER = Path(__file__).parent / "figures" / "models"
RIGHT, WIDE, WRONG = (TARGET, 42), (TARGET, 80), (NEIGHBOR, 42)  # spots of response maps


def overview() -> Figure:
    """From text alone and with masks."""
    figure = Figure(230)
    figure.picture("picture", (38, 14, 64), scene())
    figure.box("text", (16, 86, 108, 44), "“the orange\ncircle”")
    figure.box("stage1", (146, 42, 82, 60), "TRIS\nstage 1", LEARNS)
    figure.box("prms", (250, 42, 66, 60), "PRMS", FROZEN)
    figure.box("irnet", (338, 42, 66, 60), "IRNet", LEARNS)
    figure.picture("pseudo", (434, 40, 64), coarse_mask(20), "pseudo masks")
    figure.picture("true", (434, 128, 64), mask(), "or true masks")
    names = "a segmentor:\n\nTRIS stage 2\nCRIS\nETRIS\nDETRIS\nReLA"
    figure.box("segmentor", (526, 36, 104, 160), names, LEARNS)
    figure.picture("answer", (648, 84, 60), mask(), "its mask")
    figure.line([(102, 64), (146, 64)])
    figure.line([(124, 94), (146, 94)])
    figure.chain("stage1", "prms", "irnet", "pseudo", "segmentor", "answer")
    figure.chain("true", "segmentor")
    figure.line([(70, 130), (70, 218), (578, 218), (578, 196)])
    figure.text(250, 207, "pictures and expressions")
    return figure


def tris_stage1() -> Figure:
    """Two encoders, a map, and what the map is asked."""
    figure = Figure(266)
    figure.picture("picture", (34, 14, 76), scene())
    figure.box("text", (16, 112, 112, 44), "“the orange\ncircle”")
    figure.box("image clip", (158, 22, 104, 60), "CLIP\nimage", LEARNS)
    figure.box("text clip", (158, 104, 104, 60), "CLIP\ntext", LEARNS)
    figure.box(
        "cosine", (292, 22, 108, 142), "attention\nboth ways,\nthen cosine\nof each cell", LEARNS
    )
    figure.picture("map", (436, 34, 84), response(RIGHT), "response map")
    figure.box("which", (554, 14, 154, 62), "mean + peak:\nwhose expression?", ASKED)
    figure.box("area", (554, 92, 154, 44), "a small area", ASKED)
    figure.picture("seen", (436, 172, 84), seen("let-through", RIGHT))
    figure.text(424, 214, f"picture {TIMES} map", anchor="end")
    figure.box("judge", (554, 154, 154, 28), "frozen CLIP", FROZEN)
    figure.box("like", (554, 200, 154, 62), "like the expression,\nunlike 3 others", ASKED)
    figure.chain("picture", "image clip", "cosine", "map", "which")
    figure.chain("text", "text clip", "cosine")
    figure.chain("map", "area")
    figure.chain("judge", "like")
    figure.chain("seen", "judge")
    figure.line([(478, 138), (478, 172)])
    return figure


def prms() -> Figure:
    """Three expressions, three maps, one judge, the best."""
    figure = Figure(306)
    rows = (
        ("“the orange\ncircle”", (RIGHT,), (64, 60, 52)),
        ("“the round thing”", (WIDE,), (44, 50, 44)),
        ("“left of the\npurple square”", (WRONG,), (22, 20, 38)),
    )
    figure.box("stage1", (158, 34, 74, 256), "TRIS\nstage 1,\ntrained", FROZEN)
    figure.box("judge", (438, 34, 74, 256), "CLIP\nsees it", FROZEN)
    heads = ((294, "maps"), (385, f"picture {TIMES} map"), (604, "like each of the three: sum"))
    for x, head in heads:
        figure.text(x, 16, head)
    for number, (text, spots, likeness) in enumerate(rows):
        top = 34 + 90 * number
        figure.box(f"text {number}", (12, top + 14, 124, 48), text)
        figure.picture(f"map {number}", (256, top, 76), response(*spots))
        figure.picture(f"seen {number}", (347, top, 76), seen(f"seen-{number}", *spots))
        figure.arrow(f"text {number}", "stage1")
        figure.line([(232, top + 38), (256, top + 38)])
        figure.line([(332, top + 38), (347, top + 38)])
        figure.line([(423, top + 38), (438, top + 38)])
        figure.line([(512, top + 38), (532, top + 38)])
        _bar(figure, 534, top + 26, likeness, "#A9A9A9" if number else GREEN)
    figure.text(534, 92, "the best: kept for the object", anchor="start", size=13)
    return figure


def _bar(figure: Figure, x: float, y: float, lengths: tuple[int, ...], color: str) -> None:
    """A bar in pieces."""
    for length in lengths:
        figure.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{length - 2}" height="24" fill="{color}"/>'
        )
        x += length


def irnet() -> Figure:
    """Labels, what the network learns from them, and the walk."""
    figure = Figure(322)
    figure.picture("map", (16, 24, 84), response(WIDE), "response map")
    figure.box("crf", (130, 32, 96, 68), "dense CRF\nof map > 0.3,\n> 0.1")
    figure.picture("label", (256, 24, 84), sure_label(), "object, open,\nbackground")
    figure.picture("pairs", (380, 24, 84), pairs(), "pairs: same side\nof a boundary?")
    figure.box("network", (504, 32, 88, 68), "network\non the\npicture", LEARNS)
    figure.picture("centers", (622, 24, 84), centers(), "way to center")
    figure.picture("edges", (506, 196, 84), boundaries(), "boundaries")
    figure.box(
        "walk",
        (256, 204, 208, 68),
        "random walk: 256 steps\nfrom the map, hard to\ncross a boundary",
    )
    figure.picture("mask", (16, 196, 84), mask(), "pseudo mask")
    figure.chain("map", "crf", "label", "pairs", "network", "centers")
    figure.chain("network", "edges", "walk", "mask")
    figure.line([(664, 134), (664, 308), (400, 308), (400, 272)])
    figure.line([(58, 134), (58, 166), (240, 166), (240, 222), (256, 222)])
    return figure


def tris_stage2() -> Figure:
    """Four scales, words at three, a mask at each."""
    figure = Figure(330)
    figure.picture("picture", (16, 18, 76), scene())
    figure.box("text", (556, 118, 148, 40), "“the orange circle”")
    figure.box("clip", (118, 14, 414, 84), "", LEARNS)
    figure.text(325, 28, "CLIP image", "white")
    figure.box("text clip", (556, 24, 148, 40), "CLIP text", LEARNS)
    for number, (x, cells) in enumerate(((150, 0), (264, 20), (366, 10), (464, 5)), start=1):
        size = 52 - 6 * number
        middle = x + 23
        figure.box(f"c{number}", (middle - size / 2, 64 - size / 2, size, size), f"c{number}")
        figure.box(f"d{number}", (middle - 24, 196, 48, 34), f"d{number}", LEARNS)
        figure.picture(
            f"mask {number}", (middle - 32, 256, 64), coarse_mask(cells) if cells else mask()
        )
        figure.line([(middle, 230), (middle, 256)])
        if number > 1:
            figure.line([(middle, 98), (middle, 122)])
            figure.line([(middle, 164), (middle, 196)])
            figure.arrow(f"d{number}", f"d{number - 1}")
    figure.line([(173, 98), (173, 196)])
    figure.box("attention", (250, 122, 276, 42), "each pixel attends to the words", LEARNS)
    figure.arrow("picture", "clip")
    figure.line([(630, 118), (630, 64)])
    figure.line([(580, 64), (580, 100), (541, 100), (541, 143), (526, 143)])
    figure.text(130, 288, "answer", anchor="end")
    figure.text(540, 288, "each is compared\nwith the pseudo mask", anchor="start")
    return figure


def cris() -> Figure:
    """From a picture and a text vector to pixels, to a mask."""
    figure = Figure(244)
    _start(figure, 146)
    figure.box("image", (118, 22, 92, 60), "CLIP\nimage", LEARNS)
    figure.box("words", (118, 154, 92, 60), "CLIP\ntext", LEARNS)
    figure.box("neck", (256, 22, 92, 60), "pyramid", LEARNS)
    figure.box(
        "decoder",
        (386, 14, 152, 76),
        f"each pixel attends\nto all pixels and\nto the words, {TIMES} 3",
        LEARNS,
    )
    figure.box("filter", (576, 14, 62, 76), "filter", LEARNS)
    figure.picture("mask", (656, 26, 52), mask(), "mask")
    figure.chain("picture", "image", "neck", "decoder", "filter", "mask")
    figure.chain("text", "words")
    figure.text(233, 94, "3 maps")
    figure.line([(210, 168), (462, 168), (462, 90)])
    figure.text(471, 150, "words", anchor="start")
    figure.line([(210, 200), (302, 200), (302, 82)])
    figure.line([(302, 200), (607, 200), (607, 90)])
    figure.text(312, 130, "scales the\nlast map", anchor="start")
    figure.text(616, 130, "becomes\nits weights", anchor="start")
    figure.text(455, 214, "text vector")
    return figure


def _start(figure: Figure, text: float) -> None:
    """The picture, and, from this height, the expression."""
    figure.picture("picture", (20, 16, 72), scene())
    figure.box("text", (8, text + 16, 96, 44), "“the orange\ncircle”")


def etris() -> Figure:
    """Two frozen encoders in thirds, bridges between them."""
    figure = Figure(256)
    _start(figure, 164)
    for number, x in enumerate((128, 238, 348)):
        figure.box(f"image {number}", (x, 40, 92, 60), f"CLIP image\n{number + 1}/3", FROZEN)
        figure.box(f"bridge {number}", (x + 12, 124, 68, 28), "bridge", LEARNS)
        figure.box(f"text {number}", (x, 176, 92, 60), f"CLIP text\n{number + 1}/3", FROZEN)
        figure.arrow(f"image {number}", f"bridge {number}", both=True)
        figure.arrow(f"bridge {number}", f"text {number}", both=True)
        for row in ("image", "text") if number else ():
            figure.arrow(f"{row} {number - 1}", f"{row} {number}")
    for x in (220, 330):
        figure.line([(x + 9, 70), (x + 9, 16), (498, 16), (498, 40)])
    figure.arrow("picture", "image 0")
    figure.arrow("text", "text 0")
    _end(figure, "image 2", 206)
    return figure


def _end(figure: Figure, last: str, y: float) -> None:
    """Neck, decoder and mask of the family; words and text vector come from the right of a row."""
    figure.box("neck", (464, 40, 68, 60), "neck", LEARNS)
    figure.box("decoder", (554, 32, 88, 76), "decoder\nand filter\nas in CRIS", LEARNS)
    figure.picture("mask", (662, 44, 52), mask(), "mask")
    figure.text(450, 28, "3 maps", size=13)
    figure.chain(last, "neck", "decoder", "mask")
    figure.line([(440, y - 8), (498, y - 8), (498, 100)])
    figure.line([(440, y + 8), (598, y + 8), (598, 108)])
    figure.text(506, 140, "text vector", anchor="start")
    figure.text(606, 190, "words and\ntext vector", anchor="start")


def detris() -> Figure:
    """Two frozen encoders whose every other block has an adapter."""
    figure = Figure(330)
    _start(figure, 198)
    for number in range(6):
        x = 128 + 54 * number
        figure.box(f"image {number}", (x, 40, 42, 60), "", FROZEN)
        figure.box(f"text {number}", (x, 210, 42, 60), "", FROZEN)
        for row in ("image", "text") if number else ():
            figure.arrow(f"{row} {number - 1}", f"{row} {number}")
        if number % 2:
            figure.box(f"image adapter {number}", (x - 19, 116, 72, 28), "adapter", LEARNS)
            figure.box(f"text adapter {number}", (x - 19, 286, 72, 28), "adapter", LEARNS)
            figure.arrow(f"image adapter {number}", f"image {number}", both=True)
            figure.arrow(f"text adapter {number}", f"text {number}", both=True)
            figure.line([(440, 222), (462, 222), (462, 176), (x + 17, 176), (x + 17, 144)])
        if number in (1, 3):
            figure.line([(x + 48, 70), (x + 48, 12), (498, 12), (498, 40)])
    figure.text(128, 27, "DINOv2", anchor="start")
    figure.text(128, 197, "CLIP text", anchor="start")
    figure.text(440, 165, "words", anchor="start")
    figure.arrow("picture", "image 0")
    figure.arrow("text", "text 0")
    _end(figure, "image 5", 240)
    figure.text(
        474, 300, "6 of 12 blocks are shown;\nan adapter adds 1/5 of its output", anchor="start"
    )
    return figure


def rela() -> Figure:
    """Regions that look at the picture, at words and at each other; their masks are summed."""
    figure = Figure(270)
    figure.picture("picture", (20, 16, 72), scene())
    figure.box("text", (12, 182, 88, 40), "“both of\nthem”")
    figure.box("swin", (122, 22, 66, 60), "Swin", LEARNS)
    figure.box("bert", (122, 172, 66, 60), "BERT", LEARNS)
    figure.box("pixels", (210, 22, 80, 60), "pixel\ndecoder", LEARNS)
    figure.picture("regions", (322, 14, 110), regions(), f"10 {TIMES} 10 regions\nsee each other")
    figure.picture("sum", (644, 86, 64), mask("target", "neighbor"), "mask")
    figure.box("none", (478, 224, 130, 40), "no target at all?", LEARNS)
    rows = ((26, "0.9", mask()), (90, "0.8", mask("neighbor")), (154, "0.0", surroundings()))
    for top, weight, inside in rows:
        figure.picture(f"mask {top}", (534, top, 56), inside)
        figure.text(528, top + 28, f"{weight} {TIMES}", anchor="end")
        figure.line([(432, 69), (458, 69), (458, top + 28), (484, top + 28)])
        figure.line([(590, top + 28), (616, top + 28), (616, 118), (644, 118)])
    figure.text(630, 104, "+", size=18)
    figure.text(534, 12, f"belongs? {TIMES} its mask")
    figure.line([(458, 69), (458, 244), (478, 244)])
    figure.line([(188, 202), (306, 202), (306, 100), (322, 100)])
    figure.text(247, 192, "words")
    figure.chain("picture", "swin", "pixels", "regions")
    figure.chain("text", "bert", "swin")
    return figure


FIGURES = {
    "overview": (overview, "Two ways to a segmentor: from text alone, and with true masks"),
    "tris_stage1": (tris_stage1, "TRIS stage 1"),
    "prms": (prms, "PRMS"),
    "irnet": (irnet, "IRNet"),
    "tris_stage2": (tris_stage2, "TRIS stage 2"),
    "cris": (cris, "CRIS"),
    "etris": (etris, "ETRIS"),
    "detris": (detris, "DETRIS"),
    "rela": (rela, "GRES / ReLA"),
}


def files() -> dict[str, str]:
    """The content of each file, by name."""
    return {f"{name}.svg": draw().svg(title) for name, (draw, title) in FIGURES.items()}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (FOLDER / name).write_text(content)


if __name__ == "__main__":
    main()
