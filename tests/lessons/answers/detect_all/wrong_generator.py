from threading import Lock

lock = Lock()


def detect_all(model, image, conf):
    with lock:
        yield from model.stream(image, conf)
