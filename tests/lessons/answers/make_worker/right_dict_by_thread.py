import threading


def make_worker(load):
    models = {}

    def detect(image, conf):
        me = threading.get_ident()
        if me not in models:
            models[me] = load()
        return models[me].predict(image, conf=conf)

    return detect
