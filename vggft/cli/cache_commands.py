"""The verbs `vggft cache list|verify|prune`: what is kept on disk, whether it is whole, and letting go of it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..cache import Cache
from ..errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Frozen features and decoded images, kept to be used again. They lie in the user's directory for caches, or "
    "in VGGFT_CACHE_DIR. Nothing is lost by removing them but time.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command("list")
def list_entries(as_json: AsJson = False) -> None:
    """What is in the cache: the longest unused first, which are the first to go."""
    cache, rows = Cache(), []
    for path, size, used in cache.entries():
        rows.append({"entry": path.name, "kind": path.parent.name, "bytes": size, "used": _when(used), **_about(path)})
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        what = " ".join(str(row[key]) for key in ("kind", "cut", "precision", "shape", "dtype") if row.get(key))
        typer.echo(f"{row['entry'][:12]}  {row['bytes'] / 2**20:10.1f} MiB  used {row['used']}  {what}")
    typer.echo(f"{len(rows)} entries, {sum(row['bytes'] for row in rows) / 2**20:.1f} MiB in {cache.root}")


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Read every entry and check it. Exits with 1 if shards are damaged; the next run that needs those mends them."""
    cache = Cache()
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
    max_size: Annotated[str, typer.Option(help="What may stay, as 20GB, 500MB or 0; the longest unused go first.")],
) -> None:
    """Remove the longest unused entries until the rest fit."""
    cache = Cache()
    freed = cache.prune(_parse_size(max_size))
    left = cache.entries()
    typer.echo(
        f"{freed / 2**20:.1f} MiB removed; {len(left)} entries, {sum(size for _, size, _ in left) / 2**20:.1f} MiB stay"
    )


def _about(path: Path) -> dict[str, Any]:
    """What an entry is of, by its manifest; nothing where that is damaged, which `verify` is for."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        told = {key: manifest["parts"].get(key) for key in ("cut", "precision")}
        return told | {"shape": manifest["shape"], "dtype": manifest["dtype"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _parse_size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)B?", text.strip())
    if not found:
        raise ConfigError(f"--max-size must be bytes or a number with a unit, as 20GB, 500MB or 1.5GiB; got {text!r}.")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " "))


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
