"""Panels: what a reader plays with in a notebook.

base      base class of all panels: settings, Run and Stop, a run in the background, and what it leaves
drawings  style sheet, small pieces of HTML, and moving pictures: the timeline of threads, the strips of a queue

pools     Panel: any pool at work, with every result compared with the right one
          ComparePanel: all pools compared, with bars that grow
batching  BatchingPanel: calls come to a queue as fast as the reader likes
cameras   CamerasPanel: identities drawn on several cameras, side by side
explorer  ExplorerPanel: every schedule in a list, each of them step by step (stepper)
"""
