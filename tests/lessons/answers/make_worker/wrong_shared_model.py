def make_worker(load):
    model = load()
    return lambda image, conf: model.predict(image, conf=conf)
