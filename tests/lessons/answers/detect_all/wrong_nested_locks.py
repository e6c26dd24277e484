from ultralytics.utils import ThreadingLocked

guard = ThreadingLocked()


@guard
@guard
def detect_all(model, image, conf):
    return list(model.stream(image, conf))
