"""Run the lessons without a person in front of them.

`runner` executes notebooks, `report` makes pages of them, `doctor` looks at the machine.
"""
