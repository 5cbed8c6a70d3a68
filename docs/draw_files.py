"""The pictures of docs/files.md: what the files of the demo hold of one object of val.

make demo && python docs/draw_files.py --object 1717
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from draw_stages import val_of
from numpy.typing import NDArray
from PIL import Image

from irnet.affinity.images import network_input
from irnet.affinity.network import load_affinity
from stages.core.masks import decode
from stages.core.response import full_map
from stages.data.images import read_image
from stages.reporting import pictures
from stages.reporting.examples import Examples

FOLDER = Path(__file__).parent / "figures" / "files"
SIDE = 160  # pixels of each picture
COLORS = 64  # of each file: all of them together stay small


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of the files of the demo.")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--object", type=int, required=True, help="its number, of split val")
    given = parser.parse_args()
    pictures.SIDE = SIDE
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures_of(given.results, given.object).items():
        reduced = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
        reduced.save(FOLDER / f"{name}.png", optimize=True)


def pictures_of(results: Path, target: int) -> dict[str, Image.Image]:
    """A picture of each kind of file, by name; predictions in the order of the expressions."""
    samples, shards = val_of(results)
    found = Examples(samples, shards, scored=None)
    image = read_image(found.images.file[found.objects.image[target]])
    shape = (image.height, image.width)
    response, label = found.maps[target], found.labels.loc[target]
    full = full_map(torch.from_numpy(response.grid)[None], response.input_size, shape)[0].numpy()
    truth = decode(found.objects["mask"][target], *shape)
    foreground, ignore = decode(label["foreground"], *shape), decode(label["ignore"], *shape)
    pseudo = decode(found.pseudo["mask"][target], *shape)
    said = found.predicted[found.predicted.object == target]["mask"]
    return {
        "image": pictures.plain(image),
        "truth": pictures.over(image, truth, pictures.TRUE),
        "grid": of_grid(response.grid),
        "response": pictures.heat(image, full),
        "label": pictures.over(image, foreground, pictures.PREDICTED, ignore),
        "boundaries": of_boundaries(results / "refshapes_tris/irnet/model.safetensors", image),
        "pseudo": pictures.over(image, pseudo, pictures.PREDICTED),
        **{
            f"prediction-{number}": pictures.against(image, decode(mask, *shape), truth)
            for number, mask in enumerate(said, start=1)
        },
    }


def of_grid(grid: NDArray[np.float32]) -> Image.Image:
    """Cells as they are stored: blue where negative, red where positive."""
    strength = 0.5 + 0.5 * grid / np.abs(grid).max()
    colors = Image.fromarray(matplotlib.colormaps["RdBu_r"](strength, bytes=True))
    return colors.resize((SIDE, SIDE), Image.Resampling.NEAREST)


def of_boundaries(model: Path, image: Image.Image) -> Image.Image:
    """Where the relation network of the demo sees boundaries: white is sure."""
    network, trained = load_affinity(model)
    edge, _ = network.predict(network_input(np.asarray(image), trained.input_scale))
    values: NDArray[np.uint8] = (255 * edge.numpy()).astype(np.uint8)
    return Image.fromarray(values).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    main()
