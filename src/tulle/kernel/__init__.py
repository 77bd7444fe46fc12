"""The only code that talks to the kernel: libbpf, netlink, network namespaces, nftables, sysctl."""
