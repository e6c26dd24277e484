from ultralytics.utils import ThreadingLocked


@ThreadingLocked()
def detect_all(model, image, conf):
    return [next(model.stream(image, conf))]
