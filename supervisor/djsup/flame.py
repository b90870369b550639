"""A flame graph: the stacks of a profile as one self-contained HTML page or SVG, without a script.

Pure. A call is a box as wide as its share of all samples, on top of the call that made it. The HTML page says the
same in nested lists that open and close, so that a keyboard and a screen reader get at all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING
from zlib import crc32

from djsup.profile import Counted, label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djsup.stacks import Frame

WIDTH, ROW, CHARACTER = 1200.0, 18, 6.6
"""Pixels: of the picture, of a box's height, of a letter."""
NARROWEST = 0.4
"""Pixels; what is narrower is left out: nobody can see it."""
LISTED = 0.01
"""The share below which a call is left out of the list."""
COLOURS = ("#f6c89f", "#f4b98a", "#f7d6a8", "#f2a97c", "#f9e0b5", "#f0bd95")
"""All of them carry dark text at 4.5:1 and more."""


@dataclass(slots=True)
class Node:
    """A call in its place."""

    frame: Frame | None
    count: int = 0
    children: dict[Frame, Node] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What is written on it."""
        return "all" if self.frame is None else label(self.frame)


def tree(stacks: Counted) -> Node:
    """The calls by who made them."""
    root = Node(None)
    for calls, count in stacks.items():
        node = root
        node.count += count
        for frame in calls:
            node = node.children.setdefault(frame, Node(frame))
            node.count += count
    return root


def svg(stacks: Counted, title: str) -> str:
    """The picture as a file of its own."""
    root = tree(stacks)
    boxes = list(_boxes(root, 0.0, 0, WIDTH / max(1, root.count)))
    height = (max(depth for _, _, depth, _ in boxes) + 1) * ROW + 34
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:g}" height="{height}" role="img" aria-label="{escape(title)}"',
        f' viewBox="0 0 {WIDTH:g} {height}" font-family="monospace" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH:g}" height="{height}" fill="#ffffff"/>',
        f'<text x="6" y="20" font-size="14" fill="#16201a">{escape(title)}</text>',
    ]
    for node, x, depth, width in boxes:
        text = f"{node.name}: {node.count} of {root.count} samples ({_percent(node, root)})"
        y = height - (depth + 1) * ROW - 2
        lines.append(f"<g><title>{escape(text)}</title>")
        lines.append(
            f'<rect x="{x:.1f}" y="{y}" width="{max(0.3, width - 0.5):.1f}" height="{ROW - 1}" rx="2" '
            f'fill="{COLOURS[crc32(node.name.encode()) % len(COLOURS)]}"/>'
        )
        room = int((width - 6) / CHARACTER)
        if room > 2:  # noqa: PLR2004 - fewer letters say nothing
            shown = node.name if len(node.name) <= room else node.name[: room - 1] + "…"
            lines.append(f'<text x="{x + 3:.1f}" y="{y + 13}" fill="#16201a">{escape(shown)}</text>')
        lines.append("</g>")
    return "\n".join([*lines, "</svg>", ""])


def html(stacks: Counted, title: str) -> str:
    """A page with the picture, and with the same calls as lists that open and close."""
    root = tree(stacks)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 24px; font: 15px/1.5 system-ui, sans-serif; }}
.picture {{ overflow-x: auto; }}
details, .leaf {{ margin-left: 1.1em; font-family: monospace; font-size: 13px; }}
.leaf {{ padding-left: 1.1em; }}
</style></head><body>
<main><h1>{escape(title)}</h1>
<div class="picture" tabindex="0" role="region" aria-label="Flame graph">
{svg(stacks, title)}</div>
<h2>Calls</h2>
{"".join(_listed(root, root))}</main></body></html>
"""


def _boxes(node: Node, x: float, depth: int, scale: float) -> Iterator[tuple[Node, float, int, float]]:
    yield node, x, depth, node.count * scale
    for child in sorted(node.children.values(), key=lambda each: each.name):
        if child.count * scale >= NARROWEST:
            yield from _boxes(child, x, depth + 1, scale)
        x += child.count * scale


def _listed(node: Node, root: Node) -> Iterator[str]:
    text = f"{_percent(node, root)} {escape(node.name)}"
    children = [each for each in node.children.values() if each.count >= LISTED * root.count]
    if not children:
        yield f'<div class="leaf">{text}</div>\n'
        return
    yield f"<details{' open' if node is root or node.count > root.count / 2 else ''}><summary>{text}</summary>\n"
    for child in sorted(children, key=lambda each: -each.count):
        yield from _listed(child, root)
    yield "</details>\n"


def _percent(node: Node, root: Node) -> str:
    return f"{100 * node.count / max(1, root.count):.1f} %"
