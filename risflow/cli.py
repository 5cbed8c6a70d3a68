"""The command `risflow`: its verbs, in the order of a day's work."""

from collections.abc import Callable
from typing import Annotated

import typer

import risflow
from risflow.console import Verbs, out
from risflow.export.command import export
from risflow.predict.command import predict
from risflow.project.clean import clean
from risflow.project.fetch import fetch
from risflow.project.import_checkpoint import import_checkpoint
from risflow.project.init import init
from risflow.project.new_dataset import new_dataset
from risflow.project.run_options import Verb
from risflow.project.why import why
from risflow.results.compare import compare
from risflow.results.compare_bench import compare_bench
from risflow.results.masks import masks
from risflow.results.profile import profile
from risflow.results.report import report
from risflow.serve.command import serve
from risflow.status.command import status

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        out.print(f"risflow {risflow.__version__}", markup=False)
        raise typer.Exit


@app.callback()
def command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Segmentation masks from text alone. Workflows are run by snakemake: see README.md."""


VERBS: dict[str, Callable[..., None]] = {
    "init": init,
    "predict": predict,
    "new-dataset": new_dataset,
    "fetch": fetch,
    "import": import_checkpoint,
    "status": status,
    "why": why,
    "report": report,
    "compare": compare,
    "compare-bench": compare_bench,
    "masks": masks,
    "profile": profile,
    "export": export,
    "serve": serve,
    "clean": clean,
}
OF_DEVELOPERS = ("compare-bench",)  # not in the help
for name, verb in VERBS.items():
    app.command(name, cls=Verb, hidden=name in OF_DEVELOPERS)(verb)

if __name__ == "__main__":
    app()
