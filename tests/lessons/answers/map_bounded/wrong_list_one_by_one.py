def map_bounded(submit, images, at_once):
    return [submit(image).result() for image in images]
