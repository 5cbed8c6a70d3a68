"""The pictures of one expression through all stages of the demo, as one strip.

    make demo && python docs/draw_stages.py --expression 6851

Shown is what the page of the experiment shows, larger. The report's own pictures are taken.
"""

import argparse
import base64
import io
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from stages.core.tables import Samples, read_samples, read_table
from stages.reporting import pictures
from stages.reporting.examples import Examples, Shards

FIGURE = Path(__file__).parent / "figures" / "stages.png"
COLORS = 160  # of the file: half its bytes
HEADS = {
    "image": "picture",
    "CRF label": "CRF label",
    "prediction": "prediction\n(from text)",
    "trained on true masks": "prediction\n(from masks)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="A figure of the stages of the demo.")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--expression", type=int, required=True, help="its number, of split val")
    given = parser.parse_args()
    draw(row_of(given.results, given.expression), FIGURE)


def row_of(results: Path, expression: int) -> dict:
    """The expression's text and pictures, as the report has them."""
    samples, shards = val_of(results)
    scored = read_table("predictions", shards.predictions)[["expression", "object"]]
    scored = scored[scored.expression == expression].assign(iou=0.0)
    scored["image"] = scored.object.map(samples.objects.set_index("object").image)
    return Examples(samples, shards, scored).parts(1)[0].rows[0]


def val_of(results: Path) -> tuple[Samples, Shards]:
    """The samples of val, and what the demo found of them."""
    demo = results / "refshapes_tris"
    return read_samples(results / "datasets" / "refshapes").split("val"), Shards(
        predictions=_all(demo, "predictions/segmentor-val"),
        prms=_all(demo, "prms/maps-val"),
        labels=_all(demo, "irnet/labels-val"),
        pseudo=_all(demo, "pseudo/masks-val"),
        upper_bound=_all(results / "refshapes_tris_masks", "predictions/segmentor-val"),
    )


def _all(folder: Path, start: str) -> list[Path]:
    return sorted(folder.glob(f"{start}-*.parquet"))


def draw(row: dict, path: Path) -> None:
    """One picture beside the other, each with its name and its IoU."""
    cells = row["cells"]
    figure, axes = plt.subplots(1, len(cells), figsize=(1.36 * len(cells), 2.3), dpi=125)
    for axis, cell in zip(axes, cells, strict=True):
        encoded = base64.b64decode(cell["picture"].partition(",")[2])
        axis.imshow(Image.open(io.BytesIO(encoded)), interpolation="bicubic")
        axis.set_title(HEADS.get(cell["head"], cell["head"]), fontsize=9)
        axis.set_xlabel(cell["note"], fontsize=8)
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"“{row['expression']}”", fontsize=11, y=0.99)
    figure.tight_layout(rect=(0, 0, 1, 0.99), w_pad=0.6)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(COLORS).save(path, optimize=True)


if __name__ == "__main__":
    pictures.SIDE = 288
    main()
