"""Runs the notebooks without a browser, and checks the machine.

`notebooks` finds, executes and follows them; `report` makes pages of them; `doctor` checks the machine.
"""
