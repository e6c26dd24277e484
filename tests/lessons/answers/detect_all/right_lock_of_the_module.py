from threading import Lock

lock = Lock()


def detect_all(model, image, conf):
    with lock:
        return [part for part in model.stream(image, conf)]
