def count_switches(frames):
    seen = {(i, n) for now in frames for i, n in now.items()}
    return len(seen)
