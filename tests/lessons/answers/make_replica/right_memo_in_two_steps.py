import copy


def make_replica(network):
    memo = {id(p): p for p in network.parameters()}
    memo.update({id(b): b for b in network.buffers()})
    return copy.deepcopy(network, memo)
