"""The service of examples/web with Flask:  gunicorn app:app -k gthread --threads 8 -w 2 -c gunicorn_conf.py"""

import os

from flask import Flask, Response, jsonify, request

from yolothreads import BatchingWorker, ImageError, QueueFullError

os.environ["YOLO_AUTOINSTALL"] = "false"
app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 8 * 2**20  # bytes
pool = BatchingWorker(device="cpu", imgsz=320, queue_size=128)  # opened in each process: see gunicorn_conf.py


@app.get("/health")
def health() -> Response:
    return jsonify(waiting=pool.counters.waiting)


@app.post("/predict")
def predict() -> tuple[Response, int] | tuple[Response, int, dict]:
    data, conf = request.files["image"].read(), request.args.get("conf", 0.25, float)
    try:
        return jsonify(pool.submit(data, conf=conf, block=False).result().summary()), 200
    except (ImageError, ValueError) as error:
        return jsonify(detail=str(error)), 422
    except QueueFullError:
        return jsonify(detail="All places are taken; try again."), 503, {"Retry-After": "1"}
