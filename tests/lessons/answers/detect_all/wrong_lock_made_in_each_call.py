import threading


def detect_all(model, image, conf):
    with threading.Lock():
        return list(model.stream(image, conf))
