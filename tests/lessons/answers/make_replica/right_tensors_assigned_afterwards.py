import copy


def make_replica(network):
    replica = copy.deepcopy(network)
    for own, original in zip(replica.modules(), network.modules()):
        own._parameters = dict(original._parameters)
        own._buffers = dict(original._buffers)
    return replica
