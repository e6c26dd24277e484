def make_detector(load):
    model = load()

    def detect(image, conf):
        return model.detect(image, conf)

    return detect
