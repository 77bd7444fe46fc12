"""Pod CIDRs and the addresses of load balancers, announced to routers by BGP. Pure: BIRD speaks it."""
