def make_worker(load):
    return lambda image, conf: load().predict(image, conf=conf)
