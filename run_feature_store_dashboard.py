"""The dashboard: ``python run_feature_store_dashboard.py --port 8050 --debug`` is ``fstore dashboard``."""

import typer

from flows.cli.dashboard import dashboard

if __name__ == "__main__":
    typer.run(dashboard)
