# SPDX-License-Identifier: Apache-2.0
"""What `compare.py` found, as tables.

    python benchmarks/report.py compare.json
    python benchmarks/report.py benchmarks/results.json docs/BENCHMARKS.md

prints them, or puts them into a document between its markers. The numbers are those of the JSON file and nothing else.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OWN, OWN_FROM_C = "edgekit", "edgekit-c"
BEGIN, END = "<!-- begin of results: benchmarks/report.py -->\n", "<!-- end of results -->\n"


def key(engine: str, recipe: str, first: str) -> str:
    """Under which an engine's figures stand: its name, with the recipe where that is not its usual one."""
    return engine if recipe == first else f"{engine}/{recipe}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column stands left, numbers right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def limit(peaks: dict[str, float]) -> float | None:
    """The fastest instruction's GMAC/s on one core; None where none was measured."""
    return max(peaks.values(), default=None)


def share(macs: int, microseconds: float, peaks: dict[str, float], threads: int) -> float | None:
    """The multiply-accumulates that were done of those that `threads` cores could have done."""
    peak = limit(peaks)
    return macs / (microseconds * 1e3) / (peak * threads) if peak else None


def fastest(net: dict[str, Any], engine: str, threads: int) -> dict[str, Any] | None:
    """An engine's figures with its fastest recipe, `recipe` among them; None where it has none."""
    found = [
        {"recipe": entry["recipe"], **entry["threads"][str(threads)]}
        for entry in net["engines"].values()
        if entry["engine"] == engine and str(threads) in entry.get("threads", {})
    ]
    return min(found, key=lambda figures: figures["median_us"], default=None)


def best_peer(net: dict[str, Any], engines: Sequence[str], threads: int) -> tuple[str, dict[str, Any]] | None:
    """The fastest peer on a network and its figures."""
    found = [(name, figures) for name in engines if name not in (OWN, OWN_FROM_C) and (figures := fastest(net, name, threads))]
    return min(found, key=lambda pair: pair[1]["median_us"], default=None)


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def speed_table(results: dict[str, Any], threads: int) -> str:
    """Microseconds and share of the limit of every engine on every network, the best peer, and how many times as long it
    takes as edgekit."""
    engines, titles = list(results["titles"]), results["titles"]
    header = ["network (M MAC)", *(titles[name] for name in engines), "best peer", "its time over edgekit's"]
    rows, ratios = [], []
    for name, net in results["nets"].items():
        best, own = best_peer(net, engines, threads), fastest(net, OWN, threads)
        cells = [_figure(net, engine, threads, bold=best is not None and engine == best[0]) for engine in engines]
        ratio = ""
        if best and own:
            ratios.append(best[1]["ratio"])
            low, _, high = best[1]["paired_ratios"]
            ratio = f"{best[1]['ratio']:.2f} ({low:.2f} to {high:.2f})"
        rows.append([f"{name} ({_number(net['macs'] / 1e6)})", *cells, titles[best[0]] if best else "", ratio or "-"])
    if ratios:
        rows.append(["geometric mean", *[""] * (len(engines) + 1), f"{geometric_mean(ratios):.2f}"])
    return table(header, rows)


def start_table(results: dict[str, Any]) -> str:
    """From a file to the first result, memory and bytes, on the first network."""
    header = ["", "version", "load, ms", "first run, ms", "memory, engine, MB", "and model, MB", "model, KB", "libraries, MB"]
    rows = []
    name, net = next(iter(results["nets"].items()))
    for engine, title in results["titles"].items():
        entry = net["engines"].get(engine)
        if entry is not None:
            start = entry["start"]
            cells = [
                start["load_us"] / 1e3, start["first_run_us"] / 1e3, start["engine_kb"] / 1024, start["memory_kb"] / 1024,
                entry["model_bytes"] / 1e3, start["library_bytes"] / 1e6,
            ]  # fmt: skip
            rows.append([title, entry["version"], *map(_number, cells)])
    return f"Start with {name}:\n\n" + table(header, rows)


def peak_line(results: dict[str, Any]) -> str:
    """The instructions' speeds, the range over all networks."""
    measured = [peaks for net in results["nets"].values() for peaks in net["peaks"].values() if peaks]
    if not measured:
        return "No peak was measured on this processor, so no shares."
    texts = []
    for name in measured[0]:
        values = [peaks[name] for peaks in measured]
        low, high = (f"{value:.0f}" for value in (min(values), max(values)))
        texts.append(f"`{name}` {low if low == high else f'{low} to {high}'}")
    return f"Limits measured in the same rounds, GMAC/s on one core: {', '.join(texts)}. Shares are of the fastest, times the threads."


def absent(results: dict[str, Any]) -> list[str]:
    """Who did not take part, who refused a network, and whose result differs much from the float model's."""
    titles = results["titles"]
    lines = [f"{name}: skipped: {reason}" for name, reason in results["skipped"].items()]
    for net_name, net in results["nets"].items():
        lines += [f"{name}: not on {net_name}: {reason}" for name, reason in net["failed"].items()]
        for name, entry in net["engines"].items():
            if entry.get("cosine") is None or entry["cosine"] < 0.9:
                shown = "none" if entry.get("cosine") is None else f"{entry['cosine']:.2f}"
                lines.append(f"{titles[entry['engine']]} ({name}): on {net_name} the cosine to the float model's output is {shown}")
            for threads, figures in entry.get("threads", {}).items():
                if figures["cores"] > 1.15 * int(threads):
                    lines.append(f"{name}: on {net_name} kept {figures['cores']:.1f} cores busy instead of {threads}")
    return lines


def markdown(results: dict[str, Any]) -> str:
    """The whole report."""
    computer, plan = results["machine"], results["plan"]
    loads = results["load_average"]
    parts = [
        f"`{results['command']}`, {results['date']}: {computer['processor']} (family {computer['family']}, model "
        f"{computer['model']}), {computer['cores']} cores, {computer['system']}, Python {computer['python']}; load average "
        f"{min(loads, default=0)} to {max(loads, default=0)}. Medians in microseconds of {plan['rounds']} interleaved rounds of "
        f"{plan['round_seconds']:g} s, batch 1, in brackets the share of the limit; behind the ratio the quartiles of the ratios "
        "within rounds.\n",
    ]
    for threads in results["threads"]:
        parts.append(f"{threads} thread{'s' * (threads > 1)}:\n\n" + speed_table(results, threads))
    parts.append(peak_line(results) + "\n")
    if results["nets"]:
        parts.append(start_table(results))
    notes = [f"- {results['titles'][name]}: {note}\n" for name, note in results["notes"].items()]
    parts.append("How each makes its model:\n\n" + "".join(notes))
    if lines := absent(results):
        parts.append("Not in the tables, or to be read with care:\n\n" + "".join(f"- {line}\n" for line in lines))
    return "\n".join(parts)


def progress(name: str, results: dict[str, Any]) -> str:
    """One line for who waits."""
    net, engines = results["nets"][name], list(results["titles"])
    texts = []
    for threads in results["threads"]:
        figures = [(engine, fastest(net, engine, threads)) for engine in engines]
        shown = ", ".join(f"{engine} {_number(found['median_us'])}" for engine, found in figures if found)
        texts.append(f"{threads}: {shown} us")
    return f"{name}: " + "; ".join(texts)


def _figure(net: dict[str, Any], engine: str, threads: int, bold: bool) -> str:
    """A cell: microseconds, share of the limit."""
    figures = fastest(net, engine, threads)
    if figures is None:
        return "-"
    text = _number(figures["median_us"])
    part = share(net["macs"], figures["median_us"], net["peaks"][str(threads)], threads)
    remarks = [*(["dynamic"] if figures["recipe"] == "dynamic" else []), *([] if part is None else [f"{part:.0%}"])]
    text = f"**{text}**" if bold else text
    return f"{text} ({', '.join(remarks)})" if remarks else text


def _number(value: float) -> str:
    """Three significant digits, at least the integer part."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def replaced(document: str, results: dict[str, Any]) -> str:
    """The document with what stands between the markers made anew.

    Raises:
        ValueError: it has no markers.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no markers: {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}\n{markdown(results)}\n{END}{after}"


def main() -> None:
    results = json.loads(Path(sys.argv[1]).read_text())
    if len(sys.argv) > 2:
        document = Path(sys.argv[2])
        document.write_text(replaced(document.read_text(), results))
    else:
        print(markdown(results), end="")


if __name__ == "__main__":
    main()
