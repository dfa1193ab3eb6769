"""The commands `vggft cache list|verify|prune`: list what is stored, check it, and free space."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal

from . import words
from .options import AsJson

if TYPE_CHECKING:
    from ..cache import Cache

app = typer.Typer(
    no_args_is_help=True,
    help="Manage the frozen features and decoded images that are kept for later runs, in the user's cache directory or "
    "in VGGFT_CACHE_DIR. Removed entries are computed again when a run needs them.",
)


@app.command("list")
def list_entries(as_json: AsJson = False) -> None:
    """List what is in the cache, the least recently used first."""
    cache, rows = _cache(), []
    for path, size, used in cache.entries():
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(used))
        rows.append({"entry": path.name, "kind": path.parent.name, "bytes": size, "used": when, **_about(path)})
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        what = " ".join(str(row[key]) for key in ("kind", "cut", "precision", "shape", "dtype") if row.get(key))
        typer.echo(f"{row['entry'][:12]}  {decimal(row['bytes']):>10}  used {row['used']}  {what}")
    typer.echo(f"{len(rows)} entries, {decimal(sum(row['bytes'] for row in rows))} in {cache.root}")


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Read and check every entry.

    Exits with 1 if shards are missing or damaged; the next run that needs them computes them again.
    """
    cache = _cache()
    found = {f"{path.parent.name}/{path.name}": shards for path, shards in cache.verify()}
    bad = {entry: shards for entry, shards in found.items() if shards}
    if as_json:
        typer.echo(json.dumps({"entries": len(found), "damaged": bad}, indent=2))
    else:
        for entry, shards in bad.items():
            typer.echo(f"{entry}: {len(shards)} shards are missing or damaged: {', '.join(map(str, shards[:10]))}")
        typer.echo(f"{len(found)} entries in {cache.root}, {len(bad)} incomplete or damaged")
    if bad:
        raise typer.Exit(1)


@app.command()
def prune(
    max_size: Annotated[str, typer.Option(help="Size that the cache may keep, such as 20GB, 500MB or 0.")],
) -> None:
    """Remove the least recently used entries until the rest fits."""
    cache = _cache()
    freed = cache.prune(words.size(max_size))
    left = cache.entries()
    typer.echo(f"{decimal(freed)} removed; {len(left)} entries, {decimal(sum(size for _, size, _ in left))} remain")


def _cache() -> Cache:
    from ..cache import Cache  # imports NumPy, for which help and completion should not wait

    return Cache()


def _about(path: Path) -> dict[str, Any]:
    """Read what an entry holds from its manifest; return nothing if that is damaged, which `verify` reports."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        told = {key: manifest["parts"].get(key) for key in ("cut", "precision")}
        return told | {"shape": manifest["shape"], "dtype": manifest["dtype"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
