import copy


def make_replica(network):
    return copy.deepcopy(network)
