def make_replica(network):
    return network.state_dict()
