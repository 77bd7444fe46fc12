"""Does a live cluster keep the Kubernetes network model, whoever built its network?

``statements`` is the model as sentences; ``plan`` turns a cluster into checks, ``judge`` the answers into
rows, ``hops`` failed rows into the place that broke, all pure. ``cluster`` has the Pods made in which
``probe``, a program of the standard library only, carries the checks out; ``run`` puts it together.
"""
