from threading import Lock


def make_detector(load):
    model, lock = load(), Lock()

    def detect(image, conf):
        lock.acquire()
        return model.predict(image, conf=conf)

    return detect
