"""Does a live cluster keep what Kubernetes promises of its network, whoever built it?

``statements`` is the promise as sentences; ``plan`` turns a cluster into checks, ``judge`` the answers into
rows, ``hops`` failed rows into the place that broke, all pure. ``cluster`` has the Pods made in which
``probe``, a program of the standard library only, carries the checks out; ``run`` puts it together.

Services and names come after that, as what is known of the Pods' own ways tells a Service that fails from an
endpoint that nobody reaches: ``services`` is the set that is made and what the API then says of it,
``service_plan`` and ``name_plan``, ``service_judge`` and ``name_judge`` turn it into checks and ``findings``,
``service_hops`` names what is broken with the help of ``scopes`` and ``paths``; ``service_run`` runs it.
"""
