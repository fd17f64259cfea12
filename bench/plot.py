#!/usr/bin/env python3
"""Draws what `bench/sip.sh --tests ramp` measured: plot.py RESULTS.jsonl FOLDER writes one SVG for each question.

How CPU and the 99th percentile of the latency grow with the rate, and how memory grows with registrations; this node and Kamailio.
"""

import json
import os
import re
import statistics
import sys

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
# Told apart by their dashes too, not by colour alone.
STYLES = {"meshtone": ("#0b6e4f", ""), "kamailio": ("#b3541e", "6 4")}


def main():
    results, folder = sys.argv[1:]
    with open(results, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    os.makedirs(folder, exist_ok=True)
    for name, label, title in (("register", "ramp-register", "REGISTER"), ("call", "ramp-call", "Calls")):
        cpu = series(rows, label, "rate", lambda row: row["cpu_us_op"] * row["rate"] / 1e4)
        draw(f"{folder}/{name}-cpu.svg", f"{title}: CPU by rate", f"{name}s a second", "% of a core", cpu)
        p99 = series(rows, label, "rate", lambda row: row["p99_us"] / 1e3)
        draw(f"{folder}/{name}-p99.svg", f"{title}: 99th percentile of the latency by rate", f"{name}s a second", "ms", p99)
    draw(f"{folder}/memory.svg", "Memory by registrations", "registrations", "MiB", memory(rows))


def series(rows, label, across, value):
    """Medians by server: points of one measurement that ran at the rate it was to."""
    found = {}
    for row in rows:
        if row["label"] == label and row["ops_s"] > 0.95 * row[across]:
            found.setdefault(row["server"], {}).setdefault(row[across], []).append(value(row))
    return {server: [(x, statistics.median(ys)) for x, ys in sorted(by.items())] for server, by in found.items()}


def memory(rows):
    """Proportional set size by server; the number of registrations is in the label."""
    found = {}
    for row in rows:
        match = re.fullmatch(r"ramp-memory-(\d+)", row["label"])
        if match:
            found.setdefault(row["server"], {}).setdefault(int(match[1]), []).append(row["pss_kb"] / 1024)
    return {server: [(x, statistics.median(ys)) for x, ys in sorted(by.items())] for server, by in found.items()}


def draw(path, title, across, up, lines):
    """Writes one chart with a line for each server."""
    points = [point for line in lines.values() for point in line]
    if not points:
        print(f"nothing was measured for {path}", file=sys.stderr)
        return
    right, top = (nice(max(values)) for values in zip(*points))
    x = lambda value: LEFT + value / right * (WIDTH - LEFT - RIGHT)
    y = lambda value: HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<title>{title}</title><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{title}</text>',
        f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{across}</text>',
        f'<text x="16" y="{(HEIGHT - BOTTOM + TOP) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(HEIGHT - BOTTOM + TOP) / 2})">{up}</text>',
    ]
    for part in range(6):
        across_at, up_at = right * part / 5, top * part / 5
        out += [
            f'<path d="M{LEFT} {y(up_at):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>',
            f'<text x="{LEFT - 6}" y="{y(up_at) + 4:.1f}" text-anchor="end">{up_at:g}</text>',
            f'<text x="{x(across_at):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{across_at:g}</text>',
        ]
    for row, (server, line) in enumerate(sorted(lines.items(), reverse=True)):
        colour, dashes = STYLES.get(server, ("#555", "2 2"))
        path_data = "M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in line)
        out.append(f'<path d="{path_data}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>')
        out += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{colour}"/>' for a, b in line]
        out.append(f'<text x="{LEFT + 10}" y="{TOP + 16 + 16 * row}" fill="{colour}">{server}</text>')
    out.append("</svg>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


def nice(value):
    """The next round number, for the end of an axis."""
    if value <= 0:
        return 1
    step = 10.0 ** (len(str(int(value))) - 1) / 2
    return (int(value / step) + 1) * step


if __name__ == "__main__":
    main()
