"""MLflow: a run on the server that `MLFLOW_TRACKING_URI` names, else in a file of the folder."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from pcdistill.core.tracking.base import Facts, Tracker, needed, only_numbers, run_id, trackers


@trackers.register("mlflow", cites=())
class Mlflow(Tracker):
    """Losses and numbers of results as metrics, settings as parameters, pictures and results as artefacts.

    The experiment is the one that `MLFLOW_EXPERIMENT_NAME` names, else `pcdistill`.
    """

    def __init__(self, folder: Path, settings: Facts, goes_on: bool) -> None:
        super().__init__(folder, settings, goes_on)
        mlflow = needed("mlflow", "mlflow")
        here = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        self.client = mlflow.MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", here))
        self.run = run_id(folder, "mlflow", goes_on, self._fresh)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run, _named(name), value, step=step)

    def picture(self, step: int, path: Path) -> None:
        self.client.log_artifact(self.run, str(path), "clouds")

    def result(self, name: str, facts: Facts) -> None:
        for key, value in only_numbers(facts).items():
            self.client.log_metric(self.run, _named(f"{name}/{key}"), value)
        self.client.log_dict(self.run, dict(facts), f"results/{_named(name)}.json")

    def close(self, finished: bool) -> None:
        self.client.set_terminated(self.run, "FINISHED" if finished else "FAILED")

    def _fresh(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "pcdistill")
        known = self.client.get_experiment_by_name(name)
        place = None if "MLFLOW_TRACKING_URI" in os.environ else (self.folder.resolve() / "mlflow").as_uri()
        number = known.experiment_id if known else self.client.create_experiment(name, artifact_location=place)
        run = str(self.client.create_run(number, run_name=self.folder.resolve().name).info.run_id)
        for key, value in self.settings.items():
            self.client.log_param(run, key, value if isinstance(value, str | int | float) else json.dumps(value))
        return run


def _named(name: str) -> str:
    """With the letters that it takes in names of metrics."""
    return re.sub(r"[^\w./ -]", "_", name)
