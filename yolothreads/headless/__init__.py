"""Runs the notebooks without a browser, and checks the machine.

`notebooks` finds and executes them, `progress` shows how far they are, `report` makes pages of them.
`doctor` checks the machine.
"""
