"""``tulle controller``: what is done once for the whole cluster."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("controller")(controller)


def controller(
    kubeconfig: Annotated[str, typer.Option(help="In a Pod: its service account.")] = "",
    require_class: Annotated[
        bool,
        typer.Option(
            "--require-class",
            help="Only Services with loadBalancerClass tulle.dev/lb. For clusters where something else "
            "serves those without a class, such as a cloud.",
        ),
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Give Services of type LoadBalancer their addresses, from LoadBalancerPools.

    Run it once for a cluster, or more often: one works, the others wait for it to fail (Lease
    kube-system/tulle-controller). Services keep their addresses while none runs.

    It needs the resource LoadBalancerPool (kubectl apply -f src/tulle/external_to_service/crds) and the
    rights in deploy/rbac.yaml. Then make a pool:

    apiVersion: tulle.dev/v1 / kind: LoadBalancerPool / metadata: {name: public} /
    spec: {addresses: [203.0.113.200-203.0.113.220], default: true}

    kubectl get loadbalancerpools shows the pools; kubectl describe of a Service says why it has no address.
    """
    import uvloop

    from tulle import logs
    from tulle.controller.run import Settings, run
    from tulle.errors import ConfigError

    if log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"--log-level {log_level} is not debug, info, warning or error")
    logs.to_stderr(log_level)
    uvloop.run(run(Settings(kubeconfig=kubeconfig, require_class=require_class)))
