"""Which Service has which address of which LoadBalancerPool. Pure: no I/O (S-75).

``ranges`` reads what a pool names, ``judge`` says which pools can be used, ``offer`` which of them are there
for a Service, ``claim`` what the Service asks for, ``allocator`` gives, ``outcome`` says why, and
``conditions`` puts it into the API's words.
"""
