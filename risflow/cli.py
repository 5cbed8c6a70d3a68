"""The command `risflow`: its verbs, in the order of a day's work."""

from collections.abc import Callable

import typer

from risflow.commands import (
    compare,
    export,
    fetch,
    import_checkpoint,
    new_dataset,
    predict,
    report,
    serve,
    status,
)
from risflow.console import Verbs

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def command() -> None:
    """Segmentation masks from text alone. Workflows are run by snakemake: see README.md."""


VERBS: dict[str, Callable[..., None]] = {
    "predict": predict.predict,
    "new-dataset": new_dataset.new_dataset,
    "fetch": fetch.fetch,
    "import": import_checkpoint.import_checkpoint,
    "status": status.status,
    "report": report.report,
    "compare": compare.compare,
    "export": export.export,
    "serve": serve.serve,
}
for name, verb in VERBS.items():
    app.command(name)(verb)

if __name__ == "__main__":
    app()
