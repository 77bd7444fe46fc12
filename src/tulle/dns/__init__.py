"""Cluster DNS: the names of Services and Pods, answered from a copy of the API's objects.

``supervisor`` holds the sockets and keeps one worker alive; ``worker`` puts the parts together; ``server``
answers queries from ``zone``, which ``service_records`` fills from Services and EndpointSlices; ``wire`` is
the message format. Names outside the zone are the forwarder's.
"""
