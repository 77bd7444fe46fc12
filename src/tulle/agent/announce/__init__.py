"""Which load balancers' addresses this node announces by ARP and neighbour discovery."""
