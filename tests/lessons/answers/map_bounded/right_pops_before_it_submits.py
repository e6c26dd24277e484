def map_bounded(submit, images, at_once):
    under_way = []
    try:
        for image in images:
            if len(under_way) == at_once:
                yield under_way.pop(0).result()
            under_way.append(submit(image))
        yield from (future.result() for future in under_way)
    finally:
        [future.cancel() for future in under_way]
