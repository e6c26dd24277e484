def count_objects(result, name):
    return len(result.boxes)
