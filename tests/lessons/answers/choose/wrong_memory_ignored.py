def choose(rows, memory_mb):
    fit = [row for row in rows if not row["wrong"]]
    return max(fit, key=lambda row: row["images_per_s"])["pool"] if fit else None
