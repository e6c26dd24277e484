from itertools import islice


def map_bounded(submit, images, at_once):
    while futures := [submit(image) for image in islice(images, at_once)]:
        yield from (future.result() for future in futures)
