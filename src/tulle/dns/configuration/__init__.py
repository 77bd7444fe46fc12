"""What is configured: resolv.conf, a Corefile, the ConfigMap ``kube-dns``, and what they say together."""
