import threading


def make_worker(load):
    numbers, models = {}, []

    def detect(image, conf):
        me = threading.get_ident()
        if me not in numbers:
            numbers[me] = len(models)
            models.append(load())
        return models[numbers[me]].predict(image, conf=conf)

    return detect
