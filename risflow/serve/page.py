"""The page of `risflow serve`: an image, expressions, and the predictions of each model.

It loads nothing from other machines: no analytics, no fonts, no scripts.
"""

import html
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
import numpy as np
from fastapi import FastAPI
from fastapi.responses import Response
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from risflow.predict.images import load_image
from risflow.predict.model import Model
from risflow.predict.requests import require_expressions
from risflow.serve.access import Access
from risflow.serve.drawings import Drawings
from risflow.serve.guard import MOST_UPLOAD_BYTES, Guard
from risflow.serve.uploads import REFUSED, Uploads
from risflow.serve.worker import Worker
from stages.inference.inference import ExpressionPrediction
from stages.reporting.overlay import (
    encode_image,
    mask_image,
    mask_overlay,
    response_colors,
    response_overlay,
)
from stages.runtime.errors import InputError
from stages.storage.tables import read_samples

MOST_PIXELS = 20_000_000  # of an image
MOST_EXPRESSIONS = 10
WAITING = 20  # requests in the queue
KEPT = 3600  # seconds that an uploaded image is kept
EXAMPLES = 4
THRESHOLD = 10  # the largest that can be chosen, above and below 0
SHOWN = 480  # pixels of the longer side of an image on the page

STYLE = """
.gradio-container { width: 100%; max-width: 1100px !important; margin: 0 auto !important; }
.prediction { margin: 0 0 1.4rem; }
.prediction h3 { margin: 0 0 .4rem; font-size: 1rem; font-weight: 600; overflow-wrap: anywhere; }
.prediction p { margin: .5rem 0 .3rem; font-size: .85rem; opacity: .75; overflow-wrap: anywhere; }
.prediction .row { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; }
.prediction figure { margin: 0; }
.prediction img { width: 100%; height: auto; display: block; border-radius: 4px; }
.prediction .bar { height: .5rem; margin-top: .3rem; border-radius: 2px;
  background: linear-gradient(90deg, GRADIENT); }
.prediction .ends { display: flex; justify-content: space-between; }
.prediction a { font-size: .8rem; }
@media (max-width: 600px) { .prediction .row { grid-template-columns: 1fr; } }
.prediction figcaption { font-size: .75rem; opacity: .75; text-align: center; margin-top: .2rem; }
.limits p { font-size: .85rem; opacity: .75; margin: 0; }
td { white-space: pre-line; }
.wrong { padding: .8rem 1rem; border-left: 4px solid #c0392b; overflow-wrap: anywhere; }
""".replace("GRADIENT", ", ".join(response_colors(5)))

log = logging.getLogger(__name__)


def build_app(
    models: Mapping[str, Model],
    samples: Path | None,
    uploads: Uploads,
    access: Access,
) -> ASGIApp:
    """The page of some models by name; examples are taken from `samples`.

    `uploads` is the folder that GRADIO_TEMP_DIR names.
    """
    app = FastAPI(openapi_url=None)
    drawings, worker = Drawings(), Worker()

    @app.get("/health")
    def health() -> dict[str, object]:
        return {"status": "ok", "models": list(models)}

    @app.get("/drawn/{name}")
    def drawn(name: str) -> Response:
        content = drawings.get(name)
        if content is None:
            raise HTTPException(404, "not kept any more; ask for it again")
        kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(content, media_type=f"image/{kind}", headers=headers)

    async def find(image: object, text: object, names: object, threshold: object) -> str:
        asked = image, text, names, threshold
        return await worker.run(predictions, models, uploads, drawings, *asked)

    examples = _examples(samples)
    about = [
        "; ".join([f"{name}: {describe_model(model)}", *model.limits_for([])])
        for name, model in models.items()
    ]
    blocks = _blocks(list(models), about, examples, find)
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    mounted = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        max_file_size=MOST_UPLOAD_BYTES,
        show_error=False,
        theme=theme,
        css=STYLE,
        ssr_mode=False,
        footer_links=[],
    )
    uploads.examples.update(path for _, _, path in uploads.files())  # gradio's copies
    functions = [function["id"] for function in blocks.get_config_file()["dependencies"]]
    return Guard(mounted, uploads, access, functions=functions, num_examples=len(examples))


def _blocks(
    models: Sequence[str],
    notes: Sequence[str],
    examples: Sequence[list[str]],
    find: Callable[..., Awaitable[str]],
) -> gr.Blocks:
    blocks = gr.Blocks(title="risflow", analytics_enabled=False, delete_cache=(KEPT, KEPT))
    with blocks:
        gr.Markdown("# risflow\nAn image, and expressions of objects in it, one a line.")
        for note in notes:
            gr.Markdown(html.escape(note), elem_classes="limits")
        with gr.Row():
            image = gr.Image(
                type="filepath",
                sources=["upload", "clipboard"],
                label="Image",
                height=280,
                buttons=[],
            )
            with gr.Column():
                text = gr.Textbox(
                    lines=4,
                    label="Expressions",
                    placeholder="the red square\nthe shape on the left",
                    elem_id="expressions",
                )
                names = gr.CheckboxGroup(
                    list(models),
                    value=list(models),
                    label="Models",
                    visible=len(models) > 1,
                )
                threshold = gr.Slider(
                    -THRESHOLD,
                    THRESHOLD,
                    value=0,
                    step=0.1,
                    label="Threshold of the response: higher for smaller masks",
                    elem_id="threshold",
                )
                button = gr.Button("Find", variant="primary", elem_id="find")
        output = gr.HTML(elem_id="predictions")
        if examples:
            gr.Examples(
                [list(example) for example in examples],
                [image, text],
                cache_examples=False,
                label="Try",
            )
        # preprocess=False: `find` checks the request as it was sent, before an image is decoded.
        asked = [image, text, names, threshold]
        button.click(find, asked, output, api_name="find", preprocess=False)
    return blocks.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)


def predictions(
    models: Mapping[str, Model],
    uploads: Uploads,
    drawings: Drawings,
    upload: object,
    text: object,
    names: object,
    threshold: object,
) -> str:
    """The predictions as HTML, or a message about what is wrong with the request."""
    try:
        expressions = _expressions(text)
        chosen = [name for name in models if isinstance(names, list) and name in names]
        if not chosen:
            raise InputError(f"no model is chosen; there are {', '.join(models)}")
        level = _threshold(threshold)
        image = _image(upload, uploads)
        shown = image.copy()
        shown.thumbnail((SHOWN, SHOWN))
        rows: dict[str, list[str]] = {expression: [] for expression in expressions}
        for name in chosen:
            results = models[name].predict_each(image, list(rows))
            for expression, result in zip(rows, results, strict=True):
                unknown = models[name].unknown_words(expression)
                if level:  # else the mask of the evaluation
                    mask = (result.map.numpy() > level) & (not result.no_target)
                    result = replace(result, mask=mask)
                rows[expression].append(_row(shown, name, result, unknown, drawings))
    except InputError as error:
        return f'<p class="wrong">{html.escape(str(error))}</p>'
    except MemoryError:
        log.warning("too little memory for a request")
        return '<p class="wrong">too little memory; try a smaller image</p>'
    return "".join(
        f'<div class="prediction"><h3>{html.escape(expression)}</h3>{"".join(of_models)}</div>'
        for expression, of_models in rows.items()
    )


def describe_model(model: Model) -> str:
    """What a model is, and the data set that it was trained on, where its place tells that."""
    system = getattr(model.config, "model", "stage 1")
    made = re.fullmatch(r"(\w+)-[0-9a-f]{12}", model.path.resolve().parent.name)
    return f"{system}, trained on {made[1]}" if made else str(system)


def _threshold(value: object) -> float:
    if not isinstance(value, int | float) or not abs(value) <= THRESHOLD:
        raise InputError(f"the threshold is no number from -{THRESHOLD} to {THRESHOLD}")
    return float(value)


def _expressions(text: object) -> list[str]:
    lines = text.splitlines() if isinstance(text, str) else []
    expressions = [line.strip() for line in lines if line.strip()]
    require_expressions(expressions)
    if len(expressions) > MOST_EXPRESSIONS:
        raise InputError(f"{len(expressions)} expressions; at most {MOST_EXPRESSIONS} at a time")
    return expressions


def _image(upload: object, uploads: Uploads) -> Image.Image:
    """The uploaded image. The InputErrors that it raises do not tell where the file is."""
    if upload is None:
        raise InputError("no image; drop one, or take an example")
    path = upload.get("path") if isinstance(upload, dict) else None
    if not uploads.holds(path):
        raise InputError(REFUSED)
    try:
        return load_image(path, MOST_PIXELS)
    except InputError as error:
        raise InputError(str(error).replace(path, "image")) from None
    except Exception as error:  # of a decoder, for a file that was made to break it
        log.warning("an upload does not decode: %r", error)
        raise InputError("image: not a readable image") from None


def _row(
    shown: Image.Image,
    name: str,
    result: ExpressionPrediction,
    unknown: Sequence[str],
    drawings: Drawings,
) -> str:
    """One prediction: a line of text, and the response map, the mask and the overlay.

    They are drawn at the size of `shown`: drawing a large image would need much memory.
    """
    area = "no target" if result.no_target else f"{100 * result.mask.mean():.1f} % of the image"
    bilinear, nearest = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
    response = np.asarray(Image.fromarray(result.map.numpy()).resize(shown.size, bilinear))
    mask = np.asarray(Image.fromarray(result.mask).resize(shown.size, nearest))
    images = {
        "response": response_overlay(shown, response),
        "mask": mask_image(mask),
        "overlay": mask_overlay(shown, mask),
    }
    below = {"response": _color_bar(min(0.0, float(response.min())), float(response.max()))}
    figures = "".join(
        f'<figure><img src="drawn/{drawings.add(encode_image(drawn))}" alt="{title}">'
        f"<figcaption>{below.get(title, '')}{title}</figcaption></figure>"
        for title, drawn in images.items()
    )
    whole = drawings.add(encode_image(mask_image(result.mask)))
    download = f'<a href="drawn/{whole}" download="mask.png">download the mask</a>'
    caption = f"{html.escape(name)}: {area}, score {result.score:.2f}"
    if unknown:
        caption += f"; not known to the model: {html.escape(', '.join(unknown))}"
    return f'<p>{caption}</p><div class="row">{figures}</div>{download}'


def _color_bar(low: float, high: float) -> str:
    ends = f"<span>{low:.1f}</span><span>{high:.1f}</span>"
    return f'<div class="bar"></div><div class="ends">{ends}</div>'


def _examples(samples: Path | None) -> list[list[str]]:
    """Images of a data set with two expressions each."""
    if samples is None or not samples.is_file():
        return []
    return list(_of_samples(samples))[:EXAMPLES]


def _of_samples(samples: Path) -> Iterator[list[str]]:
    shown = read_samples(samples)
    if "val" in set(shown.objects.split):
        shown = shown.split("val")
    rows = shown.expressions.merge(shown.objects, on="object").merge(shown.images, on="image")
    for _, of_image in rows.groupby("image"):
        file = Path(of_image.file.iloc[0])
        if file.is_file():
            yield [str(file), "\n".join(of_image.text.tolist()[:2])]
