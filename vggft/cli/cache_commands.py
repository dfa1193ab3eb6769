"""The commands `vggft cache list|verify|prune|compact`: list what is stored, check it, and free space."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..pictures.reading import size_text
from ..telling.display import bytes_text
from . import words
from .flags import AsJson

if TYPE_CHECKING:
    from ..caching.cache import Cache

app = typer.Typer(
    no_args_is_help=True,
    help="Manage the frozen features and decoded images that are kept for later runs, in the user's cache directory or "
    "in VGGFT_CACHE_DIR. Removed entries are computed again when a run needs them.",
)


@app.command("list")
def list_stores(as_json: AsJson = False) -> None:
    """List what is in the cache, by backbone and cut: images, bytes and last use."""
    cache = _cache()
    everything = cache.parts()
    rows: list[dict[str, Any]] = []
    for store in cache.stores():
        store.refresh()
        parts = [part for part in everything if part.files[0].parent == store.path]
        used = max((part.used for part in parts), default=0.0)
        about = {key: store.kind.parts.get(key) for key in ("backbone", "cut", "precision", "view", "image_size")}
        rows.append(
            {"kind": store.kind.name, **about, "dtype": store.kind.dtype, "images": len(store.keys)}
            | {"bytes": sum(part.size for part in parts), "used": time.strftime("%Y-%m-%d %H:%M", time.localtime(used))}
        )
    older = cache.old_entries()
    old = [part for part in everything if part.files[0].parent in older]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in sorted(rows, key=lambda row: row["used"]):
        view = f"view {row['view'][0]}" if row["view"] else None
        size = size_text(row["image_size"]) if row["image_size"] else None
        what = [row[key] for key in ("kind", "backbone", "cut", "precision")]
        kept = f"kept as {row['dtype']}" if row["cut"] else None
        told = " ".join(str(each) for each in (*what, size, view, kept) if each)
        typer.echo(f"{row['images']:>9} images  {bytes_text(row['bytes']):>10}  used {row['used']}  {told}")
    if old:
        typer.echo(
            f"{len(old)} entries of an older version, {bytes_text(sum(part.size for part in old))}, are not used"
        )
    typer.echo(f"{bytes_text(sum(part.size for part in everything))} in {cache.root}")


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Read and check every row.

    Exits with 1 if rows are damaged; the next run that needs them computes them again.
    """
    found = {f"{store.path.parent.name}/{store.path.name}": (rows, bad) for store, rows, bad in _cache().verify()}
    damaged = {name: bad for name, (_, bad) in found.items() if bad}
    rows = sum(rows for rows, _ in found.values())
    if as_json:
        typer.echo(json.dumps({"rows": rows, "damaged": damaged}, indent=2))
    else:
        for name, bad in damaged.items():
            typer.echo(f"{name}: {bad} rows are damaged")
        typer.echo(f"{rows} rows in {_cache().root}, {sum(damaged.values())} damaged")
    if damaged:
        raise typer.Exit(1)


@app.command()
def prune(
    max_size: Annotated[str, typer.Option(help="Size that the cache may keep, such as 20GB, 500MB or 0.")],
    as_json: AsJson = False,
) -> None:
    """Remove the least recently used rows until the others fit."""
    cache = _cache()
    freed = cache.prune(words.size(max_size))
    rest = sum(part.size for part in cache.parts())
    if as_json:
        typer.echo(json.dumps({"removed": freed, "remaining": rest}))
    else:
        typer.echo(f"{bytes_text(freed)} removed; {bytes_text(rest)} remain")


@app.command()
def compact(as_json: AsJson = False) -> None:
    """Merge the small files that many small additions have left behind."""
    merged = _cache().compact()
    typer.echo(json.dumps({"merged": merged}) if as_json else f"{merged} files merged")


def _cache() -> Cache:
    from ..caching.cache import Cache  # brings NumPy, for which help and completion should not wait

    return Cache()
