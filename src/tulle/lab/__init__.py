"""A whole cluster on one machine. A node is a network namespace with its own agent and kubelet.

``spec`` computes what a lab looks like, ``underlay`` builds its wires, ``processes`` and ``cgroup`` run and
end what lives in it, ``up`` and ``down`` put these together, ``images`` takes in archives. ``kubelet`` runs
the Pods of one node. The network itself comes from ``tulle agent``, which is the same here as on a real node.
"""
