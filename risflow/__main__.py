"""python -m risflow: the command."""

from risflow.cli import app

app(prog_name="risflow")
