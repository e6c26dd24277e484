def make_detector(load):
    def detect(image, conf):
        return load().predict(image, conf=conf)

    return detect
