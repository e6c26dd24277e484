def count_switches(frames):
    return sum(b.get(i, n) != n for b, now in zip(frames, frames[1:]) for i, n in now.items())
