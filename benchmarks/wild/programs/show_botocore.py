"""botocore 1.44.8: the first use of a session in two threads raises KeyError in one of them."""

import threading

import botocore.session

session = botocore.session.Session()
asked, made = threading.Event(), threading.Event()


class SlowAnswer(dict):
    """The components that are not made yet; the other thread goes on late after it has asked whether one is there."""

    def __contains__(self, name):
        """Ask, and in the other thread go on only after the main one has made the component."""
        found = super().__contains__(name)
        if threading.current_thread() is other:
            asked.set()
            made.wait()
        return found


locator = session._internal_components
locator._deferred = SlowAnswer(locator._deferred)
other = threading.Thread(target=lambda: print(session.get_component("endpoint_resolver")))
other.start()
asked.wait(2)
print(session.get_component("endpoint_resolver"))
made.set()
other.join()
