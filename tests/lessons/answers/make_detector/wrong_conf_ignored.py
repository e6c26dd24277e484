def make_detector(load):
    model = load()
    return lambda image, conf: model.predict(image)
