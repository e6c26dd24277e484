from yolothreads import WorkerDiedError


def answer_all(start, images):
    def attempt(image):
        worker = start()
        try:
            return worker.detect(image)
        finally:
            worker.end()

    def answer(image):
        try:
            return attempt(image)
        except WorkerDiedError:
            try:
                return attempt(image)
            except WorkerDiedError as error:
                return error

    return [answer(image) for image in images]
