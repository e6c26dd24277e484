import threading


def make_detector(load):
    own = threading.local()

    def detect(image, conf):
        if not hasattr(own, "model"):
            own.model = load()
        return own.model.predict(image, conf=conf)

    return detect
