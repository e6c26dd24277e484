from collections import deque


def map_bounded(submit, images, at_once):
    under_way = deque()
    try:
        for image in images:
            under_way.append(submit(image))
            if len(under_way) == at_once:
                yield under_way.pop().result()
        while under_way:
            yield under_way.pop().result()
    finally:
        for future in under_way:
            future.cancel()
