"""The rows as a document and as a table."""

import platform


def document(rows: list[dict], device: str) -> dict:
    """One JSON document: the machine, the rows, and which promises hold."""
    promises = [
        {
            "name": row["name"],
            "peer": peer,
            "target": p["target"],
            "ratio": p["ratio"]["median"],
            "holds": p["ratio"]["median"] >= p["target"],
        }
        for row in rows
        for peer, p in row.get("peers", {}).items()
        if p["target"]
    ]
    return {
        "device": device,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "ratio": "CPU time of the peer / ours, median of the interleaved rounds (quartiles low and high)",
        "rows": rows,
        "promises": promises,
    }


def table(document: dict) -> str:
    """The document for a terminal: a line a peer, times in milliseconds of CPU, the spread as quartiles."""
    head = ("row", "peer", "ours ms", "peer ms", "ratio", "quartiles", "wall", "promised", "agreement")
    lines = [head]
    notes = []
    for row in document["rows"]:
        if row.get("error"):
            lines.append((row["name"], "", "", "", "", "", "", "", row["error"][:60]))
            continue
        ours = _ms(row["ours"]["cpu" if document["device"] == "cpu" else "wall"]["median"])
        if not row["peers"]:
            lines.append((row["name"], "", ours, "", "", "", "", "", _share(row["limits"])))
        for peer, p in row["peers"].items():
            r, agreement = p["ratio"], p["agreement"].get("float64", p["agreement"]["float32"])
            promised = "" if p["target"] is None else f"{p['target']:g} {'yes' if r['median'] >= p['target'] else 'NO'}"
            spread = f"{r['low']:.3g}-{r['high']:.3g}"
            wall = f"{p['wall_ratio']['median']:.3g}"
            agrees = f"{agreement['what']} {agreement['error']:.1e}"
            lines.append(
                (row["name"], peer, ours, _ms(p["cpu"]["median"]), f"{r['median']:.3g}", spread, wall, promised, agrees)
            )
            if p["note"]:
                notes.append(f"{row['name']}, {peer}: {p['note']}")
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    lines.insert(1, tuple("-" * width for width in widths))
    text = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n\n".join([text, *(["\n".join(notes)] if notes else [])])


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _share(limits: dict) -> str:
    parts = [f"{limits['arithmetic']:.0%} of the arithmetic limit"] if limits["flops"] else []
    parts += [f"{limits['memory']:.0%} of the memory limit"] if "memory" in limits else []
    return ", ".join(parts)
