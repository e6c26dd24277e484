import copy


def make_replica(network):
    replica = copy.copy(network)
    replica._modules = {name: copy.copy(module) for name, module in network._modules.items()}
    return replica
