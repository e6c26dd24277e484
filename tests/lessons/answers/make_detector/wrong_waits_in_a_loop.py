def make_detector(load):
    model, busy = load(), []

    def detect(image, conf):
        while busy:
            pass
        busy.append(1)
        try:
            return model.predict(image, conf=conf)
        finally:
            busy.pop()

    return detect
