"""nltk 3.10.4: the first use of a corpus in two threads raises AttributeError in one of them."""

import tempfile
import threading
from pathlib import Path

import nltk
from nltk.corpus.reader import PlaintextCorpusReader
from nltk.corpus.util import LazyCorpusLoader

folder = Path(tempfile.mkdtemp())
(folder / "corpora" / "toy").mkdir(parents=True)
(folder / "corpora" / "toy" / "a.txt").write_text("hello world")
nltk.data.path.insert(0, str(folder))
corpus = LazyCorpusLoader("toy", PlaintextCorpusReader, r".*\.txt")

asked, loaded = threading.Event(), threading.Event()
load_now = LazyCorpusLoader.__getattr__


def load_late(self, attr):
    """Look an attribute up, in the other thread only after the main one has loaded the corpus."""
    if threading.current_thread() is other:
        asked.set()
        loaded.wait()
    return load_now(self, attr)


LazyCorpusLoader.__getattr__ = load_late
other = threading.Thread(target=lambda: print(corpus.raw("a.txt")))
other.start()
asked.wait()
print(corpus.fileids())
loaded.set()
other.join()
