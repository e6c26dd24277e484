def count_switches(frames):
    numbers = {}
    for now in frames:
        for identity, number in now.items():
            numbers.setdefault(identity, []).append(number)
    return sum(a != b for seen in numbers.values() for a, b in zip(seen, seen[1:]))
