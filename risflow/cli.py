"""The command `risflow`."""

import typer

from risflow.commands import import_checkpoint, new_dataset, predict
from risflow.console import Verbs

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def command() -> None:
    """Segmentation masks from text alone. Workflows are run by snakemake: see README.md."""


app.command("predict")(predict.predict)
app.command("new-dataset")(new_dataset.new_dataset)
app.command("import")(import_checkpoint.import_checkpoint)

if __name__ == "__main__":
    app()
