def count_objects(result, name):
    return [result.names[int(c)] for c in result.boxes.cls.tolist()].count(name)
