from collections import deque
from concurrent.futures import wait


def map_bounded(submit, images, at_once):
    under_way = deque()
    try:
        for image in images:
            under_way.append(submit(image))
            if len(under_way) == at_once:
                wait([under_way[0]])
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
