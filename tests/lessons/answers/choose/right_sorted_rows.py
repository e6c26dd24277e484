def choose(rows, memory_mb):
    for row in sorted(rows, key=lambda row: -row["images_per_s"]):
        if row["wrong"] == 0 and row["memory_mb"] <= memory_mb:
            return row["pool"]
