def count_objects(result, name):
    return result.counts[name]
