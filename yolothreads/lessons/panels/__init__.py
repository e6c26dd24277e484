"""Panels: what a learner plays with in a notebook. `lessons.panel` is the one for any pool.

shell       what every panel is: settings, Run and Stop, a run in the background, and what it leaves
front_end   whether somebody is there to press a button, and which cell shows what
looks       colours, styles and small pieces of HTML that all panels use

pool_run    one pool at work, every result held against what it should be; lanes: its moving timeline
batching    calls come at a queue as fast as the reader likes; batching_run: the calls, strips: their moving picture
cameras     identities drawn on some cameras side by side; cameras_run: the cameras, and what is counted
contest     all pools against one another, in bars that grow
explorer    every schedule in a list (schedule_list), and each of them step by step (stepper shows, steps knows what)
shared_state  what threads share, as a replay sees it
"""
