def choose(rows, memory_mb):
    fit = [row for row in rows if not row["wrong"] and row["memory_mb"] < memory_mb]
    return max(fit, key=lambda row: row["images_per_s"])["pool"] if fit else None
