"""How not to do it: all requests share one YOLO object. FastAPI runs this handler in up to 40 threads at once.

A call stores its settings in the object, where another call replaces them: requests get each other's answers.
"""

import io
from typing import Annotated

import PIL.Image
from fastapi import FastAPI, Query, UploadFile
from ultralytics import YOLO

from yolothreads.weights import bundled

app = FastAPI()
model = YOLO(bundled())
model.overrides |= {"device": "cpu", "imgsz": 320, "verbose": False}


@app.get("/health")
async def health() -> dict:
    return {}


@app.post("/predict")
def predict(image: UploadFile, conf: Annotated[float, Query(ge=0, le=1)] = 0.25) -> list[dict]:
    return model.predict(PIL.Image.open(io.BytesIO(image.file.read())), conf=conf)[0].summary()
