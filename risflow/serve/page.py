"""The page of `risflow serve`: a picture, expressions, and what each model says of them.

It asks for nothing outside of this machine: no analytics, no fonts, no scripts from elsewhere.
"""

import html
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
from fastapi import FastAPI
from PIL import Image
from starlette.types import ASGIApp

from risflow.predict.images import as_data, heat, overlay, read_picture, shape_of
from risflow.predict.model import Model
from risflow.predict.requests import require_expressions
from risflow.serve.guard import Guard
from risflow.serve.uploads import REFUSED, Uploads
from stages.inference.inference import Answer
from stages.runtime.errors import InputError
from stages.storage.tables import read_samples

MOST_PIXELS = 20_000_000  # of a picture
MOST_BYTES = "20mb"  # of an upload
MOST_EXPRESSIONS = 10
WAITING = 20  # requests in the queue
KEPT = 3600  # seconds that an uploaded picture is kept
EXAMPLES = 4
SHOWN = 480  # pixels of the longer side of a shown picture

STYLE = """
.gradio-container { width: 100%; max-width: 1100px !important; margin: 0 auto !important; }
.answer { margin: 0 0 1.4rem; }
.answer h3 { margin: 0 0 .4rem; font-size: 1rem; font-weight: 600; overflow-wrap: anywhere; }
.answer p { margin: .5rem 0 .3rem; font-size: .85rem; opacity: .75; overflow-wrap: anywhere; }
.answer .row { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; }
.answer figure { margin: 0; }
.answer img { width: 100%; height: auto; display: block; border-radius: 4px; }
.answer figcaption { font-size: .75rem; opacity: .75; text-align: center; margin-top: .2rem; }
td { white-space: pre-line; }
.wrong { padding: .8rem 1rem; border-left: 4px solid #c0392b; overflow-wrap: anywhere; }
"""

log = logging.getLogger(__name__)


def build_app(models: Mapping[str, Model], samples: Path | None, uploads: Uploads) -> ASGIApp:
    """The page of some models, by the names that it shows; `samples` gives it examples.

    `uploads` is the folder that the environment gave to gradio (GRADIO_TEMP_DIR).
    """
    app = FastAPI(openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, object]:
        return {"status": "ok", "models": list(models)}

    blocks = _blocks(models, _examples(samples), uploads)
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    mounted = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        max_file_size=MOST_BYTES,
        show_error=False,
        theme=theme,
        css=STYLE,
        ssr_mode=False,
        footer_links=[],
    )
    return Guard(mounted, uploads)


def _blocks(
    models: Mapping[str, Model], examples: Sequence[list[str]], uploads: Uploads
) -> gr.Blocks:
    def find(picture: object, text: object, names: object) -> str:
        return answer(models, uploads, picture, text, names)

    blocks = gr.Blocks(title="risflow", analytics_enabled=False, delete_cache=(KEPT, KEPT))
    with blocks:
        gr.Markdown("# risflow\nA picture, and what to find in it: one expression a line.")
        with gr.Row():
            picture = gr.Image(
                type="filepath",
                sources=["upload", "clipboard"],
                label="Picture",
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
                button = gr.Button("Find", variant="primary", elem_id="find")
        shown = gr.HTML(elem_id="answers")
        if examples:
            gr.Examples(
                [list(one) for one in examples], [picture, text], cache_examples=False, label="Try"
            )
        # preprocess=False: the request as it was sent. It is checked before a picture is decoded.
        button.click(find, [picture, text, names], shown, api_name="find", preprocess=False)
    return blocks.queue(max_size=WAITING, default_concurrency_limit=1)


def answer(
    models: Mapping[str, Model], uploads: Uploads, picture: object, text: object, names: object
) -> str:
    """The answers as HTML; what is wrong with the request instead, if something is."""
    try:
        expressions = _expressions(text)
        chosen = [name for name in models if isinstance(names, list) and name in names]
        if not chosen:
            raise InputError("no model is chosen")
        image = _image(picture, uploads)
    except InputError as error:
        return f'<p class="wrong">{html.escape(str(error))}</p>'
    rows: dict[str, list[str]] = {expression: [] for expression in expressions}
    for name in chosen:
        found = models[name].answers(image, list(rows))
        for expression, one in zip(rows, found, strict=True):
            rows[expression].append(_row(image, name, one))
    return "".join(
        f'<div class="answer"><h3>{html.escape(expression)}</h3>{"".join(of_models)}</div>'
        for expression, of_models in rows.items()
    )


def _expressions(text: object) -> list[str]:
    lines = text.splitlines() if isinstance(text, str) else []
    expressions = [line.strip() for line in lines if line.strip()]
    require_expressions(expressions)
    if len(expressions) > MOST_EXPRESSIONS:
        raise InputError(f"{len(expressions)} expressions; at most {MOST_EXPRESSIONS} at a time")
    return expressions


def _image(picture: object, uploads: Uploads) -> Image.Image:
    """The uploaded picture. Raises InputError that says nothing of the place it is in."""
    if picture is None:
        raise InputError("no picture; drop one, or take an example")
    path = picture.get("path") if isinstance(picture, dict) else None
    if not uploads.holds(path):
        raise InputError(REFUSED)
    try:
        return read_picture(path, MOST_PIXELS)
    except InputError as error:
        raise InputError(str(error).replace(path, "picture")) from None


def _row(image: Image.Image, name: str, one: Answer) -> str:
    share = "no target" if one.no_target else f"{100 * one.mask.mean():.1f} % of the picture"
    pictures = {
        "response": heat(image, one.map.numpy()),
        "mask": shape_of(one.mask),
        "overlay": overlay(image, one.mask),
    }
    figures = "".join(
        f'<figure><img src="{as_data(shown, SHOWN)}" alt="{what}">'
        f"<figcaption>{what}</figcaption></figure>"
        for what, shown in pictures.items()
    )
    said = f"{html.escape(name)}: {share}, score {one.score:.2f}"
    return f'<p>{said}</p><div class="row">{figures}</div>'


def _examples(samples: Path | None) -> list[list[str]]:
    """Pictures of a data set with two expressions each."""
    if samples is None or not samples.is_file():
        return []
    return list(_of_samples(samples))[:EXAMPLES]


def _of_samples(samples: Path) -> Iterator[list[str]]:
    whole = read_samples(samples)
    part = whole.split("val") if "val" in set(whole.objects.split) else whole
    rows = part.expressions.merge(part.objects, on="object").merge(part.images, on="image")
    for _, of_image in rows.groupby("image"):
        file = Path(of_image.file.iloc[0])
        if file.is_file():
            yield [str(file), "\n".join(of_image.text.tolist()[:2])]
