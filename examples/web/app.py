"""Detect objects in uploaded pictures:  uvicorn app:app --workers 2

A pool belongs to each process of the server: it is opened when the process starts, and closed when it ends.
"""

import gc
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import PIL.Image
from fastapi import FastAPI, HTTPException, Query, Request, UploadFile
from fastapi.responses import JSONResponse

from yolothreads import BatchingWorker, ImageError, QueueFullError

os.environ["YOLO_AUTOINSTALL"] = "false"  # else ultralytics would install a package when a picture is damaged
MOST_BYTES, MOST_PIXELS = 8 * 2**20, 40_000_000
pool = BatchingWorker(device="cpu", imgsz=320, queue_size=128)  # it is not open yet, so that a fork does no harm


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with pool:
        gc.collect()
        gc.freeze()  # else the garbage collector looks through all of torch again and again: 0.2 s each time
        yield


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def limit_size(request: Request, call_next):
    size = request.headers.get("content-length", "0" if request.method == "GET" else "none")
    if not size.isdecimal() or int(size) > MOST_BYTES:  # the server reads no more than it was told
        return JSONResponse({"detail": f"Send at most {MOST_BYTES} bytes, with their number."}, 413)
    return await call_next(request)


@app.get("/health")
async def health() -> dict:
    return {"waiting": pool.counters.waiting}


@app.post("/predict")
async def predict(image: UploadFile, conf: Annotated[float, Query(ge=0, le=1)] = 0.25) -> list[dict]:
    data = await image.read()
    try:  # before it is decoded
        width, height = PIL.Image.open(io.BytesIO(data)).size
        if width * height > MOST_PIXELS:
            raise HTTPException(413, f"{width} x {height} pixels are too many; send a smaller picture.")
        result = await pool.predict(data, conf=conf, block=False)
    except (OSError, ImportError, PIL.Image.DecompressionBombError, ImageError) as error:
        raise HTTPException(422, str(error)) from error
    except QueueFullError as error:
        raise HTTPException(503, "All places are taken; try again.", {"Retry-After": "1"}) from error
    return result.summary()
