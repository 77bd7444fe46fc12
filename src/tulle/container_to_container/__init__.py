"""Container to container: the containers of a Pod share one network namespace.

So they share its addresses, its MAC and its localhost, and must agree on ports as processes of one
machine do. The container runtime makes the namespace and starts each container in it; Tulle is called
once for the namespace, never for a container. There is no code for this problem: the sentences of
``tulle verify`` prove that it is solved.
"""
