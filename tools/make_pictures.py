"""Make the README's picture from the running kit: a timeline of four threads that share one model.

python tools/make_pictures.py
"""

from pathlib import Path

from yolothreads import SharedModel, pictures, recording
from yolothreads.lessons import figures

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"


def main() -> None:
    with SharedModel(workers=4, device="cpu", imgsz=320) as pool, recording() as spans:
        images = pictures(count=12).images
        futures = [pool.submit(image, max_det=(1, 50)[i % 2]) for i, image in enumerate(images)]
        for future in futures:
            future.result()
    figure = figures.timeline(spans, "Four threads share one YOLO model")
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.save(IMAGES / "timeline.png")
    print(figure)


if __name__ == "__main__":
    main()
