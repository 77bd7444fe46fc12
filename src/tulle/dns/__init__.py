"""Cluster DNS: the names of Services and Pods, answered from a copy of the API's objects.

``supervisor`` holds the sockets and keeps one worker alive; ``worker`` puts the parts together; ``udp`` and
``tcp`` hand queries to ``resolver``, which answers from ``cluster`` or lets ``outside`` do it, as
``configuration`` says; ``wire`` is the message format.
"""
