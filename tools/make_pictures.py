"""Make the README's pictures from the running kit: screenshots of panels in JupyterLab while they run.

python tools/make_pictures.py            makes all pictures, in about three minutes; needs Chromium or Chrome
python tools/make_pictures.py explorer   makes one of them
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.conftest import installed  # noqa: E402
from browser.jupyter import Lab, Notebook  # noqa: E402

IMAGES = ROOT / "docs" / "images"
FRAMES, EVERY_S = 16, 0.3
WIDTH, HEIGHT = 1280, 1700
BEGIN = """
from ultralytics import YOLO
from yolothreads.lessons import BatchingPanel, CamerasPanel, ComparePanel, ExplorerPanel, Lesson, Panel

lesson = Lesson("cpu", workers=3)
settings = {"device": "cpu", "imgsz": 160, "conf": 0.05, "verbose": False}
model = YOLO(lesson.weights)
image = lesson.crowded(lambda picture: len(model.predict(picture, **settings)[0]))


def few(model):
    return model.predict(image, **settings, max_det=1)


def many(model):
    return model.predict(image, **settings, max_det=50)
"""
PANELS = {
    "panel": "Panel(lesson, 'SharedModel', images=1000)",
    "explorer": "ExplorerPanel(few, many, setup=lambda: model, watch=['ultralytics.engine.model'])",
    "batching": "BatchingPanel(lesson, queue_size=16, seconds=14, rush=True)",
    "cameras": "CamerasPanel(lesson, frames=400, cameras=3)",
    "compare": "ComparePanel(lesson, images=6, rounds=3)",
}
# When the screenshot is taken: seconds after Run, or as soon as the status line has these words.
MOMENTS = {"panel": 4.0, "explorer": "schedules", "batching": 12.0, "cameras": 8.0, "compare": "In 3 rounds"}


def screenshot(notebook: Notebook) -> Image.Image:
    return Image.open(io.BytesIO(notebook.find("yolothreads-panel").screenshot())).convert("RGB")


def animation_frames(notebook: Notebook) -> list[Image.Image]:
    frames = []
    for _ in range(FRAMES):
        frames.append(screenshot(notebook))
        notebook.page.wait_for_timeout(1000 * EVERY_S)
    height = max(frame.height for frame in frames)
    whole = [Image.new("RGB", (frames[0].width, height), "white") for _ in frames]
    for canvas, frame in zip(whole, frames, strict=True):
        canvas.paste(frame)
    return whole


def make(notebook: Notebook, name: str) -> None:
    notebook.click("yolothreads-run")
    moment = MOMENTS[name]
    if isinstance(moment, str):
        notebook.wait_for_text("yolothreads-status", moment, 120)
        notebook.page.wait_for_timeout(3000)  # the output of the run, or the replay, comes a little later
    else:
        notebook.page.wait_for_timeout(1000 * moment)
    if name == "explorer":
        for _ in range(2):
            notebook.click("yolothreads-next-change")
            notebook.page.wait_for_timeout(500)
    if name == "panel":
        first, *rest = [frame.quantize(96) for frame in animation_frames(notebook)]
        file = IMAGES / "panel.gif"
        first.save(file, save_all=True, append_images=rest, duration=round(1000 * EVERY_S), loop=0, optimize=True)
    else:
        screenshot(notebook).save(IMAGES / f"panel_{name}.png", optimize=True)
    notebook.click("yolothreads-stop")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as place,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=installed()) as browser,
        Lab(browser, Path(place)) as lab,
    ):
        for name in sys.argv[1:] or PANELS:
            cells = BEGIN, f"panel = {PANELS[name]}\npanel.show()"
            with lab.open(lab.write(name, *cells), WIDTH, HEIGHT) as notebook:
                assert notebook.run_all(), notebook.cell_errors()
                make(notebook, name)
                print(name)


if __name__ == "__main__":
    main()
