from yolothreads import WorkerDiedError


def answer_all(start, images):
    for _ in range(9):
        worker = start()
        try:
            return [worker.detect(image) for image in images]
        except WorkerDiedError:
            pass
        finally:
            worker.end()
