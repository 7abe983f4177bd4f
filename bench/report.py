"""The table, the JSON and the plot of a run."""

import statistics
from xml.sax.saxutils import escape


def figures(samples, side, metric):
    """Least, median and most of the rounds."""
    values = [sample[metric] for sample in samples[side]]
    return min(values), statistics.median(values), max(values)


def results(case, samples):
    """One dict per row of a measured case."""
    out = []
    for row in case.rows:
        ours, base = figures(samples, *row.ours), figures(samples, *row.base)
        result = {"case": case.name, "title": case.title, "what": row.what, "unit": row.unit, "ours": ours, "base": base,
                  "base_side": row.base[0], "ratio": ours[1] / base[1] if base[1] else None, "target": row.target,
                  "more": row.more}
        if row.limit:
            limit = row.limit(lambda side, metric: figures(samples, side, metric)[1])
            result.update(limit=limit, met=ours[1] >= limit if row.more else ours[1] <= limit)
        side = samples[row.ours[0]]
        result["lost"] = [sample.get("lost", 0) for sample in side]
        result["duplicates"] = sum(sample.get("duplicates", 0) for sample in side)
        result["refused"] = sum(sample.get("refused", 0) for sample in side)
        out.append(result)
    return out


def number(value):
    if value is None:
        return "–"
    if abs(value) >= 1e6:
        return "%.2fM" % (value / 1e6)
    if abs(value) >= 1e4:
        return "%.0fk" % (value / 1e3)
    return "%.0f" % value if abs(value) >= 100 else "%.3g" % value


def three(values):
    return " / ".join(number(value) for value in values)


HEADER = ["case", "what", "ours min / median / max", "baseline min / median / max", "ratio", "target", "met",
          "lost, twice, refused"]


def cells(result):
    target = result["target"]
    if "limit" in result:
        target += " = " + number(result["limit"])
    trouble = [sum(result["lost"]), result["duplicates"], result["refused"]]
    return [result["case"], "%s, %s" % (result["what"], result["unit"].replace("/s", "per s")), three(result["ours"]),
            three(result["base"]), "–" if result["ratio"] is None else "%.2f" % result["ratio"], target or "–",
            {True: "yes", False: "NO", None: ""}[result.get("met")],
            ", ".join(str(count) for count in trouble) if any(trouble) else "0"]


def markdown(rows):
    lines = ["| %s |" % " | ".join(HEADER), "|" + "---|" * len(HEADER)]
    return "\n".join(lines + ["| %s |" % " | ".join(cells(row)) for row in rows])


def text(rows):
    """The same, aligned for a terminal."""
    table = [HEADER] + [cells(row) for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table)


def svg(rows, caption):
    """For each target, how much of it is used: left of the line it is met. The bar ends at the median, the thin line goes
    from the best round to the worst."""
    rows = [row for row in rows if row.get("limit", 0) > 0]
    left, scale, height, most = 470, 200, 22, 3.0
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">'
           % (left + scale * most + 90, height * len(rows) + 60),
           '<rect width="100%" height="100%" fill="white"/>', '<text x="8" y="16">%s</text>' % escape(caption)]
    for i, row in enumerate(rows):
        used = [row["limit"] / value if row["more"] else value / row["limit"] for value in row["ours"] if value]
        if len(used) < 3:
            continue
        least, middle, worst = sorted(used)[0], used[1], sorted(used)[-1]
        y = 30 + height * i
        x = [left + scale * min(value, most) for value in (least, middle, worst)]
        out.append('<text x="%d" y="%d" text-anchor="end">%s</text>'
                   % (left - 8, y + 13, escape("%s %s" % (row["case"], row["what"]))))
        out.append('<rect x="%d" y="%d" width="%.1f" height="12" fill="%s"/>'
                   % (left, y + 3, x[1] - left, "#3a8f5c" if row["met"] else "#c0504d"))
        out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="black"/>' % (x[0], x[2], y + 9, y + 9))
        out.append('<text x="%.1f" y="%d">%.2f</text>' % (x[2] + 6, y + 13, middle))
    bottom = 30 + height * len(rows)
    out.append('<line x1="%d" x2="%d" y1="24" y2="%d" stroke="black" stroke-dasharray="4"/>'
               % (left + scale, left + scale, bottom))
    out.append('<text x="%d" y="%d" text-anchor="middle">the target; less is better</text>' % (left + scale, bottom + 16))
    return "\n".join(out + ["</svg>"]) + "\n"
