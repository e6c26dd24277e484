from yolothreads import WorkerDiedError


def answer_all(start, images):
    worker, answers = start(), []
    for image in images:
        for _ in range(1):
            try:
                answer = worker.detect(image)
                break
            except WorkerDiedError as error:
                answer = error
                worker = start()
        answers.append(answer)
    worker.end()
    return answers
