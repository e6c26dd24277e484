import copy


def make_replica(network):
    return copy.copy(network)
