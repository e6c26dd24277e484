def choose(rows, memory_mb):
    fit = [row for row in rows if not row["wrong"] and row["memory_mb"] <= memory_mb]
    return fit[0]["pool"] if fit else None
