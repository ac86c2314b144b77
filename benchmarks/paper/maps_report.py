"""What the command `maps` found, as a table and a drawing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.paper import heat
from benchmarks.paper.maps import MEAN, SAME_SEED
from benchmarks.paper.report import figure

HEADINGS = {
    "deleted_cosine": "deleted, cosine",
    "retained_cosine": "retained, cosine",
    "deleted_l2": "deleted, L2",
    "retained_l2": "retained, L2",
    "moved_deleted": "deleted, moved",
    "moved_retained": "retained, moved",
    "shown_deleted_cosine": "one deleted, cosine",
    "shown_retained_cosine": "one retained, cosine",
    "empty": "maps of zeros",
}
NAMES = {"retrain": "retrain against retrain"}
TILES = {"nothing": "original", SAME_SEED: "same seed"}
BOUNDS = ("nothing", "retrain", SAME_SEED)
WHAT = (
    "Grad-CAM maps (Selvaraju et al. 2017, arXiv:1610.02391) of the layer `{layer}`, the network's last convolution, for each"
    " image's own class: where the score of that class comes from. Means over {deleted} deleted and {retained} retained"
    " images, drawn by the seed; *one* is a single image of each kind, both of one class and answered right by the original"
    " (the first seed's two are drawn). Cosine distance of two maps, and L2 distance of maps that are normalised to sum one,"
    " to the mean map of all retrains but one, averaged over which; so is each retrain, which is the noise floor. *moved* is"
    " the cosine distance to the original's own map: the paper's argument is that a good update moves maps no further than a"
    " retrain does. *retrain, same seed* begins from the original's initial weights, the retrains from others. A map of zeros"
    " is at cosine distance 1 from any other. Methods as tuned for their table."
)


def lines(record: Mapping[str, Any]) -> list[list[str]]:
    """One line a row: nothing, the floor, then methods by the distance of deleted images' maps."""
    return [[NAMES.get(row["name"], row["name"]), *_shown(row)] for row in _rows(record)]


def show(console: Console, record: Mapping[str, Any], title: str) -> None:
    table = Table("method", *HEADINGS.values(), title=title)
    for line in lines(record):
        table.add_row(*line)
    console.print(table)
    for name, reason in record["missing"].items():
        console.print(f"{name} is not in the table: {reason}")


def section(record: Mapping[str, Any], place: str, command: str) -> str:
    """The page's section; `place` names the setting, `command` says how it was run."""
    heads = ["method", *HEADINGS.values()]
    table = ["| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *lines(record)]]
    gone = [f"{name} is not in the table: {reason}" for name, reason in record["missing"].items()]
    return (
        f"### Activation maps on {place}\n\n{WHAT.format(layer=record['layer'], **record['averaged'])} {command}\n\n"
        f"![Activation maps of one deleted and one retained image](results/{record['name']}.svg)\n\n"
        + "\n".join([*table, "", *gone, _told_apart(record)])
        + "\n"
    )


def drawing(record: Mapping[str, Any], place: str) -> str:
    """The two images, and under each network's name the map of the deleted and that of the retained one."""
    shown = record["shown"]
    tiles = [
        heat.Tile("image", [_picture(text, shown["image_shape"]) for text in shown["images"]], ["deleted", "retained"])
    ]
    retrains = sorted(name for name in shown["maps"] if name.startswith("retrain "))
    for name in ["nothing", MEAN, *retrains, SAME_SEED, *(row["name"] for row in _rows(record)[len(BOUNDS) :])]:
        maps = [heat.png(heat.coloured(heat.from_hex(text, shown["map_shape"]))) for text in shown["maps"][name]]
        captions = [f"{distance:.3f}" for distance in shown["cosine"][name]] if name != MEAN else ["", ""]
        tiles.append(heat.Tile(TILES.get(name, name), maps, captions))
    notes = [
        f"Class {shown['class']}, seed {shown['seed']}. Upper maps: the deleted image; lower maps: a retained one.",
        "Bright: where the score of the class comes from, each map by its own scale.",
        "Numbers: cosine distance to the mean map of retrains, for a retrain to that of the others.",
        "Same seed: a retrain from the original's initial weights.",
    ]
    return heat.grid(f"{place}: activation maps", notes, tiles)


def _rows(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rows = {row["name"]: row for row in record["maps"]}
    methods = [row for name, row in rows.items() if name not in BOUNDS]
    by_distance = sorted(methods, key=lambda row: float(row["figures"]["deleted_cosine"]["mean"]))
    return [*(rows[name] for name in BOUNDS), *by_distance]


def _shown(row: Mapping[str, Any]) -> list[str]:
    return [figure(key, row["figures"][key]) for key in HEADINGS]


def _told_apart(record: Mapping[str, Any]) -> str:
    """Whether these maps can tell a network that was left alone from a retrain at all, and what the seed does to them."""
    nothing, floor, alike = (row["figures"] for row in _rows(record)[: len(BOUNDS)])
    far, least = nothing["deleted_cosine"], floor["deleted_cosine"]
    told = (
        "the maps can tell the original from a retrain"
        if far["low"] > least["high"]
        else "the maps cannot tell the original from a retrain, and no distance here shows that something was forgotten"
    )
    return (
        f"Deleted images: nothing at {far['mean']:.3f}, a retrain at {least['mean']:.3f}: {told}. From the original's maps a"
        f" retrain with its seed moved by {alike['moved_deleted']['mean']:.3f}, the others by"
        f" {floor['moved_deleted']['mean']:.3f}."
    )


def _picture(text: str, shape: Sequence[int]) -> str:
    """A data URI of an image whose bytes are spelt out channel by channel; one channel is grey."""
    pixels_HWC = np.moveaxis(heat.from_hex(text, shape), 0, -1)
    return heat.png(np.repeat(pixels_HWC, 3, axis=-1) if shape[0] == 1 else pixels_HWC)
