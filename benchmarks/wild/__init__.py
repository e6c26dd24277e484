"""Publicly reported thread races in real packages: the explorer and frontrun on pinned versions, side by side.

check_then_act   a test, and later an action that relies on it
while_iterated   a collection that changes under a loop
shared_state     what one call needs, kept where all calls see it
deadlocks        threads that wait for each other, or start too early
bug, packages    what each of these gives; pinned packages in folders of their own
child, runs      one tool on one version of one bug, in a process of its own; all that are asked for
result, page     what a tool said, kept in a JSON file; docs/in_the_wild.md

python -m benchmarks.wild               # runs what is not known yet, and writes the page
python -m benchmarks.wild limits nltk   # only these
"""

from benchmarks.wild import check_then_act, deadlocks, shared_state, while_iterated
from benchmarks.wild.bug import Bug

KINDS: dict[str, dict[str, Bug]] = {
    "Check, then act": check_then_act.RACES.bugs,
    "Changed while it is iterated over": while_iterated.RACES.bugs,
    "State of one call, kept where all calls see it": shared_state.RACES.bugs,
    "Deadlocks, and threads that start too early": deadlocks.RACES.bugs,
}
BUGS: dict[str, Bug] = {name: bug for bugs in KINDS.values() for name, bug in bugs.items()}
