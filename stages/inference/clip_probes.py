"""What a small CLIP knows of the items of new scenes, each seen through a soft mask.

Accuracies of the judge: whether an expression finds its item. Linear probes: what an embedding
tells of its item.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.backbones.clip import Clip
from stages.data.images import normalize
from stages.data.shapes.expressions import VALUES
from stages.data.shapes.pairs import Scene, draw_mask, draw_scene
from stages.data.shapes.pretraining import STREAM
from stages.data.shapes.scene import Item
from stages.data.text import Tokenizer

TEST_STREAM = STREAM + 1

Seen = list[tuple[Scene, Tensor]]  # scenes, and the embeddings (items, E) of each of their items


@torch.inference_mode()
def see_items(clip: Clip, seed: int, numbers: Iterable[int]) -> Seen:
    """These scenes of the test stream, and embeddings of length 1 of each item in a soft mask."""
    seen = []
    for number in numbers:
        key = (seed, TEST_STREAM, number)
        scene, rng = draw_scene(key, clip.image_size), np.random.default_rng([*key, 1])
        image = normalize(torch.from_numpy(scene.image).permute(2, 0, 1)[None])
        masks = np.stack([draw_mask(rng, scene, target) for target in range(len(scene.items))])
        views = clip.encode_image(image * torch.from_numpy(masks)[:, None])
        seen.append((scene, F.normalize(views, dim=1)))
    return seen


@torch.inference_mode()
def judge_accuracy(clip: Clip, tokenizer: Tokenizer, seen: Seen) -> dict[str, float]:
    """How often the judge tells the items of a scene apart, in 0..1.

    An expression is right if its own item scores highest (by kind, and all), an item if all its
    expressions together score highest on it (PRMS).
    """
    right: dict[str, list[float]] = {"attribute": [], "place": [], "relation": []}
    objects, chances = [], []
    for scene, views in seen:
        for target, expressions in enumerate(scene.expressions):
            if not expressions:
                continue
            tokens = tokenizer([expression.text for expression in expressions])
            texts = F.normalize(clip.encode_text(tokens)[1], dim=1)
            scores = views @ texts.T  # (items, expressions)
            for expression, chosen in zip(expressions, scores.argmax(dim=0), strict=True):
                right[expression.kind].append(float(chosen == target))
            objects.append(float(scores.sum(dim=1).argmax() == target))
            chances.append(1 / len(scene.items))
    accuracy = {kind: float(np.mean(values)) for kind, values in right.items()}
    accuracy["expression"] = float(np.mean([x for values in right.values() for x in values]))
    accuracy["object"] = float(np.mean(objects))
    accuracy["chance"] = float(np.mean(chances))
    return accuracy


def linear_probes(seen: Seen, fitted: Seen) -> dict[str, float]:
    """How well a linear function of its embedding tells an item's attributes and its center.

    By least squares on the scenes `fitted`, others than those `seen`. Of an attribute, how often
    its value gets the highest of the fitted indicators, in 0..1; of `x` and `y`, the coefficient of
    determination R2.
    """
    embeddings, items = _together(fitted)
    others, tested = _together(seen)
    probes = {}
    for name, values in VALUES.items():
        wanted = [[getattr(item, name) == value for value in values] for item in items]
        predicted = _predict(embeddings, np.array(wanted, float), others).argmax(axis=1)
        pairs = zip(predicted, tested, strict=True)
        probes[name] = float(np.mean([values[at] == getattr(item, name) for at, item in pairs]))
    predicted = _predict(embeddings, _centers(items), others)
    actual = _centers(tested)
    left = ((actual - predicted) ** 2).sum(axis=0)
    r2 = 1 - left / ((actual - actual.mean(axis=0)) ** 2).sum(axis=0)
    return probes | {"x": float(r2[0]), "y": float(r2[1])}


def _together(seen: Seen) -> tuple[NDArray, list[Item]]:
    """Embeddings (N, E + 1), the last column 1, and their items, of all scenes."""
    embeddings = torch.cat([views for _, views in seen]).double().numpy()
    items = [item for scene, _ in seen for item in scene.items]
    return np.column_stack([embeddings, np.ones(len(items))]), items


def _predict(embeddings: NDArray, wanted: NDArray, others: NDArray) -> NDArray:
    """What the linear function fitted from `embeddings` to `wanted` says of `others`."""
    return others @ np.linalg.lstsq(embeddings, wanted, rcond=None)[0]


def _centers(items: list[Item]) -> NDArray:
    return np.array([(item.x, item.y) for item in items])
