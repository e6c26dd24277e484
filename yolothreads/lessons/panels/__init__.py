"""Panels: what a learner plays with in a notebook.

shell       what every panel is: settings, Run and Stop, a run in the background, and what it leaves
front_end   whether somebody is there to press a button, and which cell shows what
looks       colours, styles and small pieces of HTML that all panels use
lanes       the moving timeline
pool_run    one pool at work, every result held against what it should be

explorer, batching, cameras, contest    panels of their own; `lessons.panel` is the one for any pool
"""
