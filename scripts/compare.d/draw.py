"""Draws a chart of the results: `python3 scripts/compare.d/draw.py target/compare/results.json docs/performance.svg`."""

import json
import statistics
import sys
from xml.sax.saxutils import escape

REFERENCE = "nginx auth_request cached"
COLOURS = {
    REFERENCE: "#9aa5b1", "HAProxy jwt_verify": "#6b7c93", "Envoy jwt_authn": "#c9b458",
    "mcp-edge, everything on": "#1f77b4", "mcp-edge, opaque route": "#17a2b8",
}
LEFT, WIDTH, BAR, GAP, TOP, LONGEST = 250, 900, 13, 14, 74, 2.5


def ratio(rounds, others):
    return statistics.median(own["cpu_us"] / other["cpu_us"] for own, other in zip(rounds, others))


def groups(results):
    """What stands beside each other: a title, and the ratio of each proxy to nginx."""
    tables = {"HTTP/1, kept connections": results["one"], **results["shapes"]}
    for title, table in tables.items():
        yield title, [(name, ratio(table[name], table[REFERENCE])) for name in COLOURS if name in table]


def text(x, y, words, size=12, anchor="start", weight="normal"):
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'


def draw(results):
    scale = (WIDTH - LEFT - 60) / LONGEST
    parts, y = [], TOP
    for title, bars in groups(results):
        parts.append(text(LEFT - 10, y + len(bars) * BAR / 2 + 4, title, anchor="end"))
        for name, value in bars:
            shown = min(value, LONGEST)
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{shown * scale:.1f}" height="{BAR - 2}" fill="{COLOURS[name]}"/>')
            parts.append(text(LEFT + shown * scale + 4, y + BAR - 3, f"{value:.2f}", 10))
            y += BAR
        y += GAP
    one = LEFT + scale
    line = f'<line x1="{one}" y1="{TOP - 6}" x2="{one}" y2="{y - GAP + 4}" stroke="#333" stroke-dasharray="3 3"/>'
    legend, x = [], 20
    for name, colour in COLOURS.items():
        legend.append(f'<rect x="{x}" y="38" width="11" height="11" fill="{colour}"/>' + text(x + 15, 48, name, 11))
        x += 35 + 6.2 * len(name)
    machine = results["machine"]
    title = "CPU time of a request, relative to nginx with auth_request and a cache (shorter is better)"
    below = f'one thread, {machine["model"]}, Linux {machine["kernel"]}, {machine["date"]}; `make compare`'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 20}" font-family="sans-serif" fill="#222">',
        f'<rect width="{WIDTH}" height="{y + 20}" fill="#fff"/>', text(20, 24, title, 14, weight="bold"), *legend, line, *parts,
        text(20, y + 8, below, 10), "</svg>", "",
    ])


def main():
    with open(sys.argv[1]) as file:
        results = json.load(file)
    with open(sys.argv[2], "w") as file:
        file.write(draw(results))


main()
