import copy


def make_replica(network):
    replica = copy.deepcopy(network)
    replica.load_state_dict(network.state_dict())
    return replica
