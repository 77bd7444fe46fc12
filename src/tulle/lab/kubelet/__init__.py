"""A small kubelet: runs the Pods of one node through crun and CNI, and says how they are.

Bottom up: ``objects`` (Pods as the API has them), ``records`` (what a restart must not forget), ``bundle``,
``environment`` and ``status`` (pure), ``rootfs``, ``volumes``, ``cni``, ``sandbox``, ``runtime``, ``probes``
(thin edges), ``launch``, ``container`` (one container through its restarts), ``pod`` (one Pod from start to
end), ``server`` and ``console`` (logs and exec), ``node`` and ``main``.
"""
