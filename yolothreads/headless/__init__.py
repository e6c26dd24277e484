"""Run the lessons without a person in front of them: `runner` executes notebooks, `doctor` looks at the machine."""
