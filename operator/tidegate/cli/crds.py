"""`tidegate crds`: the custom resource definitions and their reference page, generated from the models."""

from pathlib import Path

import click


@click.command("crds")
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write one file per resource into this folder instead of printing.",
)
@click.option("--docs", is_flag=True, help="Print the reference page (Markdown) instead of the YAML.")
def command(folder: Path | None, docs: bool) -> None:
    """Print the custom resource definitions (YAML) or their reference page (Markdown)."""
    from tidegate.api import crd
    from tidegate.api import docs as pages

    files = {"api.md": pages.page()} if docs else crd.files()
    if folder is None:
        click.echo("---\n".join(files.values()), nl=False)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote {folder / name}")
