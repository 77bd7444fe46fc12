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

    One process for a cluster, or several: one works, the others wait until it fails.
    Services keep their addresses while none runs.

    Before: kubectl apply -f src/tulle/external_to_service/crds -f deploy/rbac.yaml

    docs/load-balancers.md tells how to make a pool and what a Service can ask for.
    kubectl get loadbalancerpools shows pools; kubectl describe service NAME says why one has no address.
    """
    import uvloop

    from tulle import logs
    from tulle.controller.run import Settings, run
    from tulle.errors import ConfigError

    if log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"--log-level {log_level} is not debug, info, warning or error")
    logs.to_stderr(log_level)
    uvloop.run(run(Settings(kubeconfig=kubeconfig, require_class=require_class)))
