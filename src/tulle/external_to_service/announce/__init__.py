"""Which node answers ARP and neighbour discovery for which LoadBalancer IP. Pure: no I/O, no clock.

``vips`` says what there is to announce, and which nodes can. ``election`` has exactly one of them do it: a
node proves that it lives by its *beat*, and holds an address by its *grant*; both are Leases, and ``leases``
says what stands in them. ``known`` is what a node knows of all of them, ``plans`` what it should do about
each address. ``frames`` are the announcements that a new holder makes by itself.
"""
