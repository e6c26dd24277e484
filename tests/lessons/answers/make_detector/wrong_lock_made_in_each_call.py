from threading import Lock


def make_detector(load):
    model = load()

    def detect(image, conf):
        with Lock():
            return model.predict(image, conf=conf)

    return detect
