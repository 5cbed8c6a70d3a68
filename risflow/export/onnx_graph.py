"""A model as an ONNX graph, compared with PyTorch before it is kept.

Inputs are images (1, 3, S, S) float32, resized and normalized, and tokens (T, L) int64 of any
number of expressions. Outputs are maps (T, S, S) float32, positive in the mask, and `no_target`
(T,) for a model that predicts it, positive where there is no target. The metadata of the file name
the resize mode, mean, deviation and size of the images.

Shapes: T expressions of L tokens, S x S pixels that the model sees.
"""

import importlib.util
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.clip import frozen
from stages.data.resize_modes import RESIZE_MODES
from stages.data.wordpiece import load_model_tokenizer
from stages.models.saved import GeneralizedPredictor, Saved, load_model
from stages.runtime.errors import InputError
from stages.storage.files import replacing

NEEDED = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-3  # of the largest value of PyTorch's maps
# Some models move by more, by rounding alone. ReLA with a Swin-B of random weights at 480 pixels
# moves by 0.8 thousandths where an image changes by a millionth (by 0.6 with other threads), and
# its graph differs by 2.4. So ten times the effect of such a change is accepted, too.
CHANGE, ROUNDING = 1e-6, 10
TEXTS = ("a red circle", "the man on the right", "the smaller one of both")
COUNTS = (1, 3, 8)  # expressions a comparison


class Graph(nn.Module):
    """A predictor of several expressions of one image."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def outputs(self) -> list[str]:
        return ["maps", "no_target"][: 1 + isinstance(self.model, GeneralizedPredictor)]

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """The outputs of an image (1, 3, S, S) and tokens (T, L)."""
        index = torch.zeros_like(tokens[:, 0])
        batch = {"images": images, "tokens": tokens, "image_index": index}
        if isinstance(self.model, GeneralizedPredictor):
            return self.model.predict_generalized(batch)
        return (self.model.predict(batch),)


def require_onnx() -> None:
    """Raises InputError where the optional dependencies are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"export: {missing[0]} is not installed: pip install 'risflow[export]'")


def export_onnx(path: Path, out: Path) -> tuple[float, float]:
    """Write the graph of a model file; returns its largest difference from PyTorch, and the limit.

    Raises InputError, and leaves no file, for a model that cannot be such a graph and for a graph
    that differs by more than the limit.
    """
    saved = load_model(path)
    graph = Graph(frozen(saved.model)).eval()
    tokens = load_model_tokenizer(saved.config)(TEXTS)
    program = convert(graph, _images(saved.image_size, 0), tokens, path)
    program.model.metadata_props.update(_about(saved))
    with replacing(out) as temporary:
        program.save(temporary, external_data=False)
        return require_same(graph, temporary, saved.image_size, tokens, path)


def require_same(
    graph: Graph, model_file: Path, image_size: int, tokens: Tensor, place: Path
) -> tuple[float, float]:
    """The largest difference of a written graph from PyTorch, and the limit.

    Raises InputError, of `place`, where it differs by more, and where all maps are 0.
    """
    difference, limit = _compare(graph, model_file, image_size, tokens)
    if not limit:
        raise InputError(f"{place}: all maps are 0, so that no graph can be compared with it")
    if not difference <= limit:
        raise InputError(
            f"{place}: the ONNX graph differs from PyTorch by {difference:.2g}; needed at most"
            f" {limit:.2g}; not written"
        )
    return difference, limit


def _images(size: int, seed: int) -> Tensor:
    """Blobs of colors (1, 3, S, S), for which all models give masks (for noise some do not)."""
    blobs = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(blobs, [size] * 2, mode="bilinear")


def convert(graph: Graph, images: Tensor, tokens: Tensor, place: Path) -> Any:
    """The ONNX program of a graph, by example inputs. Raises InputError, of `place`, for none."""
    try:
        with torch.no_grad(), _exporting():
            exported = torch.export.export(
                graph,
                (images, tokens),
                dynamic_shapes=({}, {0: torch.export.Dim("expressions", min=1)}),
            )
            return torch.onnx.export(
                exported,
                dynamo=True,
                input_names=["images", "tokens"],
                output_names=graph.outputs,
                verbose=False,
            )
    except RuntimeError as error:  # of many kinds, one for each step of the way
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        message = str(cause).strip().partition("\n")[0]
        raise InputError(f"{place}: cannot be an ONNX graph: {message}") from error


@contextmanager
def _exporting() -> Iterator[None]:
    """Attention without PyTorch's fused layer, which ONNX does not have; no graphs on stderr.

    Errors are raised anyway.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        torch.backends.mha.set_fastpath_enabled(before)


def _about(saved: Saved[Any]) -> dict[str, str]:
    """Metadata: how images and expressions become the input, and maps become masks."""
    resize_mode = RESIZE_MODES[saved.model.resize_mode]
    return {
        "resize_mode": saved.model.resize_mode,
        "image_size": str(saved.image_size),
        "mean": " ".join(map(str, resize_mode.mean)),
        "deviation": " ".join(map(str, resize_mode.deviation)),
        "mask": "where a map is positive",
        "config": saved.config.model_dump_json(),
    }


def _compare(graph: Graph, path: Path, image_size: int, tokens: Tensor) -> tuple[float, float]:
    """The largest difference over several inputs, and its limit."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    difference = largest = moved = 0.0
    for seed, count in enumerate(COUNTS, start=1):
        images = _images(image_size, seed)
        rows = tokens[torch.arange(count) % len(tokens)]
        with torch.inference_mode():
            wanted, changed = graph(images, rows), graph(images * (1 + CHANGE), rows)
        run = session.run(None, {"images": images.numpy(), "tokens": rows.numpy()})
        difference = max(difference, _distance(map(torch.from_numpy, run), wanted))
        moved = max(moved, _distance(changed, wanted))
        largest = max(largest, float(wanted[0].abs().max()))
    return difference, max(TOLERANCE * largest, ROUNDING * moved)


def _distance(some: Iterable[Tensor], others: Iterable[Tensor]) -> float:
    return max(
        float((first - second).abs().max()) for first, second in zip(some, others, strict=True)
    )
